package kafkatest

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// The users of the SASL listener.
const (
	PlainUser     = "plain"
	PlainPassword = "plain-secret"
)

// writeProperties writes server.properties: a node that is a whole cluster, with
// small internal topics, and that notices its own death soon.
func (b *Broker) writeProperties() error {
	p := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  "1",
		"controller.quorum.voters":                 "1@" + b.at(portController),
		"controller.listener.names":                "CONTROLLER",
		"listeners":                                "PLAINTEXT://" + b.Addr() + ",CONTROLLER://" + b.at(portController),
		"advertised.listeners":                     "PLAINTEXT://" + b.Addr(),
		"listener.security.protocol.map":           "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,MUTUAL:SSL,TLS:SSL,SASL:SASL_PLAINTEXT",
		"inter.broker.listener.name":               "PLAINTEXT",
		"log.dirs":                                 b.DataDir(),
		"auto.create.topics.enable":                "false",
		"offsets.topic.replication.factor":         "1",
		"offsets.topic.num.partitions":             "1",
		"transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr":            "1",
		"transaction.state.log.num.partitions":     "1",
		"group.initial.rebalance.delay.ms":         "0",
		"log.cleaner.dedupe.buffer.size":           "8388608",
		// A busy machine may starve the broker for long; it must not lose its partitions
		// for that. After a kill the node waits for the end of its former session: QuickRestart.
		"broker.session.timeout.ms":    "60000",
		"broker.heartbeat.interval.ms": "500",
	}
	b.addTLS(p)
	b.addSASL(p)
	for name, value := range b.cfg.settings {
		p[name] = value
	}
	var lines []string
	for name, value := range p {
		lines = append(lines, name+"="+value+"\n")
	}
	slices.Sort(lines)
	if err := os.WriteFile(b.properties(), []byte(strings.Join(lines, "")), 0o600); err != nil {
		return fmt.Errorf("write the broker's settings: %w", err)
	}
	return nil
}

func addListener(p map[string]string, name, addr string) {
	p["listeners"] += "," + name + "://" + addr
	p["advertised.listeners"] += "," + name + "://" + addr
}

// addTLS gives the listeners keys as text (KIP-651).
func (b *Broker) addTLS(p map[string]string) {
	if b.tls == nil {
		return
	}
	addListener(p, "MUTUAL", b.MutualTLSAddr())
	addListener(p, "TLS", b.TLSAddr())
	p["ssl.keystore.type"], p["ssl.truststore.type"] = "PEM", "PEM"
	p["ssl.keystore.certificate.chain"] = oneLine(b.tls.server.cert)
	p["ssl.keystore.key"] = oneLine(b.tls.server.key)
	p["ssl.truststore.certificates"] = oneLine(b.tls.CA)
	p["listener.name.mutual.ssl.client.auth"] = "required"
	p["listener.name.tls.ssl.client.auth"] = "none"
}

// oneLine writes a text of several lines as a value of a properties file.
func oneLine(text []byte) string { return strings.ReplaceAll(string(text), "\n", `\n`) }

func (b *Broker) addSASL(p map[string]string) {
	if !b.cfg.sasl {
		return
	}
	addListener(p, "SASL", b.SASLAddr())
	const of = "listener.name.sasl."
	p["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
	p[of+"plain.sasl.jaas.config"] = fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s";`, PlainUser, PlainPassword)
	const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	p[of+"scram-sha-256.sasl.jaas.config"], p[of+"scram-sha-512.sasl.jaas.config"] = scram, scram
	p[of+"oauthbearer.sasl.jaas.config"] = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";"
}
