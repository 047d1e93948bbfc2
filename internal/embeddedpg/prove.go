package embeddedpg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"
)

// versionTimeout bounds one run of `postgres --version`, which takes
// milliseconds; it is for a broken program that waits for something.
const versionTimeout = 10 * time.Second

// prove checks that dir holds a server that this package can use and logical
// decoding can work with.
func prove(dir string) (Install, error) {
	// postgres finds its libraries beside the file that a symbolic link leads to
	// (src/common/exec.c, find_my_exec), so the resolved folder is the real one.
	real, err := filepath.EvalSymlinks(filepath.Join(dir, exe("postgres")))
	if err != nil {
		return Install{}, fmt.Errorf("resolve postgres: %w", err)
	}
	i := Install{BinDir: filepath.Dir(real)}
	if _, err := os.Stat(i.bin("initdb")); err != nil {
		return Install{}, fmt.Errorf("look for initdb: %w", err)
	}
	user, err := childUser("")
	if err != nil {
		return Install{}, err
	}
	if err := user.canReach(i.BinDir); err != nil {
		return Install{}, err
	}
	if i.Version, i.Major, err = askVersion(i.bin("postgres")); err != nil {
		return Install{}, err
	}
	if i.LibDir, err = findLibDir(i.BinDir, i.Major); err != nil {
		return Install{}, err
	}
	return i, nil
}

// askVersion runs `postgres --version`. It also shows that the program's shared
// libraries are there.
func askVersion(postgres string) (version string, major int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, postgres, "--version")
	cmd.Env = childEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", 0, fmt.Errorf("run %s --version: %w: %s", postgres, err, firstLine(out))
	}
	return parseVersion(string(out))
}

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func parseVersion(out string) (version string, major int, err error) {
	m := regexp.MustCompile(`\(PostgreSQL\) ((\d+)(\.\d+|[a-z]+\d+)?)`).FindStringSubmatch(out)
	if m == nil {
		return "", 0, fmt.Errorf("read version: no version in %q", firstLine([]byte(out)))
	}
	if major, err = strconv.Atoi(m[2]); err != nil {
		return "", 0, fmt.Errorf("read version: %w", err)
	}
	return m[1], major, nil
}

// findLibDir looks for the pgoutput plugin where builds keep it: without it no
// server can be a source of ours.
func findLibDir(binDir string, major int) (string, error) {
	root := filepath.Dir(binDir)
	m := strconv.Itoa(major)
	dirs := []string{
		filepath.Join(root, "lib"),                         // Debian, RPM, Windows
		filepath.Join(root, "lib", "postgresql"),           // fetched builds, Homebrew, Arch
		filepath.Join(root, "lib", "postgresql@"+m),        // Homebrew, versioned
		filepath.Join(root, "lib64", "pgsql"),              // Fedora
		filepath.Join(root, "..", "lib", "postgresql"+m),   // Alpine (bin in libexec)
		filepath.Join(root, "lib", "postgresql", m, "lib"), // links in /usr/bin
	}
	for _, d := range dirs {
		for _, ext := range []string{".so", ".dylib", ".dll"} {
			if _, err := os.Stat(filepath.Join(d, "pgoutput"+ext)); err == nil {
				return d, nil
			}
		}
	}
	return "", fmt.Errorf("look for the pgoutput plugin near %s: not found", binDir)
}

// systemPatterns are the folders in which packages for this kind of system put
// the server's programs.
func systemPatterns() []string {
	switch runtime.GOOS {
	case "windows":
		return []string{`C:\Program Files\PostgreSQL\*\bin`}
	case "darwin":
		return []string{
			"/opt/homebrew/opt/postgresql@*/bin",
			"/usr/local/opt/postgresql@*/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
		}
	}
	return []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*"}
}

// exe returns the file name of a program on this system.
func exe(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}
