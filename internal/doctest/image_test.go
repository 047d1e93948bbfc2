package doctest_test

import (
	"context"
	"debug/elf"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// compose is the part of docker-compose.yml that has to agree with the program.
type compose struct {
	Services map[string]service `yaml:"services"`
	Configs  map[string]struct {
		Content string `yaml:"content"`
	} `yaml:"configs"`
	Secrets map[string]struct {
		File string `yaml:"file"`
	} `yaml:"secrets"`
	Volumes map[string]any `yaml:"volumes"`
}

type service struct {
	Image       string            `yaml:"image"`
	Build       string            `yaml:"build"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Secrets     []string          `yaml:"secrets"`
	Ports       []string          `yaml:"ports"`
	DependsOn   map[string]any    `yaml:"depends_on"`
	Configs     []struct {
		Source string `yaml:"source"`
	} `yaml:"configs"`
	Healthcheck struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
}

func composeFile(t *testing.T) compose {
	t.Helper()
	var c compose
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "docker-compose.yml").text), &c))
	return c
}

// settings returns the server's settings that the command of a service gives.
func (s service) settings() map[string]string {
	all := map[string]string{}
	for i, arg := range s.Command {
		if name, value, ok := strings.Cut(arg, "="); ok && i > 0 && s.Command[i-1] == "-c" {
			all[name] = value
		}
	}
	return all
}

// bridgeEnv is the environment of a service as its process sees it, $$ being how
// compose writes a dollar sign.
func (s service) bridgeEnv() map[string]string {
	all := map[string]string{}
	for name, value := range s.Environment {
		all[name] = strings.ReplaceAll(value, "$$", "$")
	}
	return all
}

// What one service names of another is there, and ports are on loopback.
func TestComposeIsWhole(t *testing.T) {
	c := composeFile(t)
	for name, s := range c.Services {
		require.True(t, s.Image != "" || s.Build != "", name)
		for _, secret := range s.Secrets {
			require.NotEmpty(t, c.Secrets[secret].File, secret)
		}
		for _, config := range s.Configs {
			require.NotEmpty(t, c.Configs[config.Source].Content, config.Source)
		}
		for other := range s.DependsOn {
			require.Contains(t, c.Services, other)
		}
		for _, port := range s.Ports {
			require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s: port %s", name, port)
		}
		for variable, value := range s.Environment {
			if strings.Contains(strings.ToLower(variable), "password") {
				require.True(t, strings.HasPrefix(value, "/run/secrets/"), "%s: %s is no file", name, variable)
			}
		}
	}
}

// The server's image is of a version that is supported, and its settings are ones
// that a real server takes.
func TestComposeServer(t *testing.T) {
	t.Parallel()
	s := composeFile(t).Services["postgres"]
	require.Regexp(t, regexp.MustCompile(`^postgres:(14|15|16|17|18)$`), s.Image)
	settings := s.settings()
	require.Equal(t, "logical", settings["wal_level"])
	var options []pgtest.Option
	for name, value := range settings {
		options = append(options, pgtest.Setting(name, value))
	}
	db := pgtest.New(t, options...).DB(t)
	for name, value := range settings {
		require.Equal(t, value, db.One(t, "SHOW "+name), name)
	}
}

// Each variable is the environment form of a key, and together they are a valid
// configuration whose secrets come from the files that the service has.
func TestComposeEnvironment(t *testing.T) {
	variables := []string{configs.PathVariable, "WALBRIDGE_ROUTES"}
	for _, key := range keys(t) {
		variables = append(variables, configs.EnvName(key))
	}
	for name, kind := range map[string]string{"setup": "worktable", "walbridge": "worktable", "setup-kafka": "kafka", "walbridge-kafka": "kafka"} {
		s := composeFile(t).Services[name]
		env := s.bridgeEnv()
		for variable, value := range env {
			require.Contains(t, variables, variable)
			for _, m := range regexp.MustCompile(`\$\{file:/run/secrets/([^}]+)\}`).FindAllStringSubmatch(value, -1) {
				require.Contains(t, s.Secrets, m[1], variable)
			}
		}
		loaded, err := configs.Load("", func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		require.NoError(t, err)
		require.Equal(t, kind, loaded.Config.Sink.Kind())
	}
}

// The ports of the image, of the service and of the program are one.
func TestPorts(t *testing.T) {
	_, port, err := net.SplitHostPort(configs.DefaultListen)
	require.NoError(t, err)
	require.Contains(t, read(t, "Dockerfile").text, "\nEXPOSE "+port+"\n")
	s := composeFile(t).Services["walbridge"]
	require.Equal(t, []string{"127.0.0.1:" + port + ":" + port}, s.Ports)
	require.Equal(t, "0.0.0.0:"+port, s.Environment["WALBRIDGE_HTTP_LISTEN"])
	require.Contains(t, read(t, "README.md").text, "http://127.0.0.1:"+port)
}

// The services' commands, the health check among them, are the program's.
func TestImageCommands(t *testing.T) {
	entry := instruction(t, "ENTRYPOINT")
	c := composeFile(t)
	var commands [][]string
	for _, name := range []string{"setup", "walbridge", "setup-kafka", "walbridge-kafka"} {
		commands = append(commands, c.Services[name].Command)
	}
	health := c.Services["walbridge"].Healthcheck.Test
	require.Equal(t, []string{"CMD", strings.Trim(entry, `[]"`)}, health[:2])
	commands = append(commands, health[2:], []string{strings.Trim(instruction(t, "CMD"), `[]"`)})
	for _, args := range commands {
		parses(t, "docker-compose.yml", args)
	}
}

// instruction returns the arguments of the last one of its kind in the Dockerfile.
func instruction(t *testing.T, name string) string {
	t.Helper()
	all := regexp.MustCompile(`(?m)^`+name+` (.*)$`).FindAllStringSubmatch(read(t, "Dockerfile").text, -1)
	require.NotEmpty(t, all, name)
	return all[len(all)-1][1]
}

// The image is built by the module's version of Go, from nothing, for a user that
// is a number and not root, and runs what it has copied.
func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile").text
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod").text)
	require.NotNil(t, version)
	require.Contains(t, text, "FROM golang:"+version[1]+" AS build\n")
	require.Equal(t, "scratch", instruction(t, "FROM"))
	require.Regexp(t, regexp.MustCompile(`^[1-9]\d+:[1-9]\d+$`), instruction(t, "USER"))
	require.Contains(t, text, "--chown="+instruction(t, "USER")+" ")
	entry := strings.Trim(instruction(t, "ENTRYPOINT"), `[]"`)
	require.Contains(t, text, "COPY --from=build /out/walbridge "+entry+"\n")
	require.Contains(t, text, "/etc/ssl/certs/ca-certificates.crt")
	state := instruction(t, "WORKDIR")
	require.Contains(t, instruction(t, "COPY"), " "+state)
	require.True(t, strings.HasPrefix(instruction(t, "ENV"), "HOME="+state+" "))
}

var buildLine = regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0) go build (.*) -o /out/walbridge (\./cmd/walbridge)$`)

// The Dockerfile's command builds a program that needs no library.
func TestImageBinaryIsStatic(t *testing.T) {
	t.Parallel()
	m := buildLine.FindStringSubmatch(read(t, "Dockerfile").text)
	require.NotNil(t, m)
	if runtime.GOOS != "linux" {
		t.Skip("an ELF file is what Linux runs")
	}
	out := filepath.Join(t.TempDir(), "walbridge")
	build := exec.Command("bash", "-c", "go build "+m[2]+" -o '"+out+"' "+m[3])
	build.Dir, build.Env = root, append(os.Environ(), m[1])
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	f, err := elf.Open(out)
	require.NoError(t, err)
	defer f.Close()
	require.False(t, slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }), "it has an interpreter")
	libraries, err := f.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
}

// The composition works on a real server: its tables, its set-up, its bridge.
func TestComposeDelivers(t *testing.T) {
	t.Parallel()
	c := composeFile(t)
	db := pgtest.New(t).DB(t)
	db.Exec(t, c.Configs["tables"].Content)
	env := []string{"WALBRIDGE_HTTP_LISTEN=127.0.0.1:0"}
	for name, value := range c.Services["walbridge"].bridgeEnv() {
		if strings.HasSuffix(name, "_DSN") {
			value = db.DSN()
		}
		if name != "WALBRIDGE_HTTP_LISTEN" {
			env = append(env, name+"="+value)
		}
	}
	setup := pgtest.Command{Args: c.Services["setup"].Command, Env: env}.Start(t)
	require.Zero(t, setup.WaitExit(t, within), setup.Output())
	bridge := pgtest.Command{Args: c.Services["walbridge"].Command, Env: env}.Start(t)
	url := statusPage(t, bridge)
	pgtest.Eventually(t, within, func() bool { return strings.HasPrefix(get(t, url+"readyz"), "ready") }, "the bridge is ready")
	db.Exec(t, `INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', '1', 'OrderPaid', '{}')`)
	pgtest.Eventually(t, within, func() bool { return db.One(t, "SELECT count(*) FROM walbridge.log") == "1" }, "the event is delivered")
	require.Zero(t, bridge.Terminate(t, within), bridge.Output())
}

// So does the part with Kafka: the broker's settings are ones that a real broker takes,
// and the bridge's records are there.
func TestComposeDeliversToKafka(t *testing.T) {
	t.Parallel()
	c := composeFile(t)
	require.Equal(t, "apache/kafka:"+kafkatest.DefaultVersion, c.Services["kafka"].Image)
	var options []kafkatest.Option
	for name, value := range c.Services["kafka"].Environment {
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "KAFKA_")), "_", ".")
		if !strings.Contains(key, "listeners") && key != "controller.quorum.voters" && key != "log.dirs" { // the test's own addresses and folder
			options = append(options, kafkatest.Setting(key, value))
		}
	}
	broker := kafkatest.New(t, options...)
	db := pgtest.New(t).DB(t)
	db.Exec(t, c.Configs["tables"].Content)
	env := []string{"WALBRIDGE_HTTP_LISTEN=127.0.0.1:0", "WALBRIDGE_SOURCE_DSN=" + db.DSN(), "WALBRIDGE_SINK_KAFKA_BROKERS=[" + broker.Addr() + "]"}
	for name, value := range c.Services["walbridge-kafka"].bridgeEnv() {
		if !slices.ContainsFunc(env, func(given string) bool { return strings.HasPrefix(given, name+"=") }) {
			env = append(env, name+"="+value)
		}
	}
	setup := pgtest.Command{Args: c.Services["setup-kafka"].Command, Env: env}.Start(t)
	require.Zero(t, setup.WaitExit(t, within), setup.Output())
	require.Contains(t, setup.Output(), "topics: made walbridge.progress, shop_kafka.dead_letter, public.orders\n")
	bridge := pgtest.Command{Args: c.Services["walbridge-kafka"].Command, Env: env}.Start(t)
	url := statusPage(t, bridge)
	pgtest.Eventually(t, within, func() bool { return strings.HasPrefix(get(t, url+"readyz"), "ready") }, "the bridge is ready")
	db.Exec(t, `INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', '1', 'OrderPaid', '{"id": 1}')`)
	consumer, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.ConsumeTopics("order"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.UnknownTopicRetries(-1), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	require.NoError(t, err)
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	records := consumer.PollFetches(ctx).Records()
	require.Len(t, records, 1)
	require.JSONEq(t, `{"id": 1}`, string(records[0].Value))
	require.Equal(t, "1", string(records[0].Key))
	require.Zero(t, bridge.Terminate(t, within), bridge.Output())
}
