package embeddedpg

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Config describes a server. Only Install is required.
type Config struct {
	// Install is the set of binaries to run.
	Install Install
	// Dir holds everything of the server: data, socket, log. It is made when it
	// does not exist; data in it is used again. Defaults to a new folder among the
	// temporary ones, which Remove deletes, and a failed Start too.
	Dir string
	// Settings are parameters of postgresql.conf by name. They win over this
	// package's own, but for port and unix_socket_directories, and ALTER SYSTEM wins
	// over them.
	Settings map[string]string
	// HBA are lines of pg_hba.conf, put before the lines that trust every local
	// user, so that they win (the first match counts).
	HBA []string
	// Fsync makes the server write durably. Without it a crash of the machine, not
	// of the server, can lose or damage the data; tests and demos are twice as
	// fast.
	Fsync bool
	// Port is the TCP port on 127.0.0.1. Defaults to a free one.
	Port int
	// InitArgs are further arguments of initdb, such as "--data-checksums".
	InitArgs []string
	// RunAs names the user as whom the server runs when this process is root.
	// Defaults to postgres, then nobody. Without meaning when not root.
	RunAs string
}

// settings returns the parameters that the server starts with.
func (s *Server) settings(port int) map[string]string {
	all := map[string]string{
		"listen_addresses":  "127.0.0.1",
		"logging_collector": "off",
		"log_line_prefix":   "%m [%p] %a ",
		"lc_messages":       "C", // this package reads the log
		"timezone":          "UTC",
		"log_timezone":      "UTC",
	}
	if runtime.GOOS != "windows" {
		// Files in the data folder, which go with it; POSIX segments of a killed
		// server would stay in the system.
		all["dynamic_shared_memory_type"] = "mmap"
	}
	if !s.cfg.Fsync {
		all["fsync"] = "off"
		all["full_page_writes"] = "off"
	}
	maps.Copy(all, s.cfg.Settings)
	all["port"], all["unix_socket_directories"] = strconv.Itoa(port), s.sockDir
	return all
}

// confName is the file of our settings in the data folder. postgresql.conf
// includes it, so that it can be written anew at each start and ALTER SYSTEM,
// which a command line would overrule, still works.
const confName = "walbridge.conf"

// configure writes the settings and the access rules.
func (s *Server) configure(port int) error {
	var b strings.Builder
	all := s.settings(port)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quote(all[name]))
	}
	if err := s.write(confName, b.String()); err != nil {
		return err
	}
	hba := strings.Join(append(slices.Clone(s.cfg.HBA),
		"local all all trust",
		"local replication all trust",
		"host all all 127.0.0.1/32 trust",
		"host replication all 127.0.0.1/32 trust", ""), "\n")
	return s.write("pg_hba.conf", hba)
}

// quote makes a value of postgresql.conf (src/backend/utils/misc/guc-file.l,
// DeescapeQuotedString: doubled quotes and C-like backslashes).
func quote(v string) string {
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`, "\n", `\n`).Replace(v) + "'"
}

// write replaces a file of the data folder.
func (s *Server) write(name, content string) error {
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return s.user.own(path)
}

// appendTo adds to a file of the data folder.
func (s *Server) appendTo(name, content string) error {
	path := filepath.Join(s.data(), name)
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return s.write(name, string(old)+content)
}
