package kafkatest

import (
	"bytes"
	"fmt"
	"os"
	"sync"
)

// started is what a broker logs when it serves (kafka.server.KafkaRaftServer).
const started = "Kafka Server started"

// log keeps what a broker prints and tells when it is ready.
type log struct {
	file  *os.File
	ready chan struct{} // closed when the broker serves
	once  sync.Once
	line  []byte // the end of what came, without a line break
}

func newLog(path string) (*log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the broker's log: %w", err)
	}
	return &log{file: file, ready: make(chan struct{})}, nil
}

// Write is called by one goroutine, that of the process's output.
func (l *log) Write(p []byte) (int, error) {
	l.line = append(l.line, p...)
	if bytes.Contains(l.line, []byte(started)) {
		l.once.Do(func() { close(l.ready) })
	}
	l.line = append(l.line[:0], l.line[bytes.LastIndexByte(l.line, '\n')+1:]...)
	return l.file.Write(p)
}
