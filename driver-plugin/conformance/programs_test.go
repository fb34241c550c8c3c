// The built programs that the tests need.

package conformance

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	// driverFile is the name of the driver's executable, and the label of the agent's plugin block.
	driverFile = "nomad-driver-pg-leader-proxy"
	// driverName is the driver's name in jobs, which the plugin reports.
	driverName = "pg-leader-proxy"

	driverVariable = "PGLP_DRIVER"
	labVariable    = "PGLP_LAB"
	// built is cargo's target directory, unless targetVariable names another one, seen from this directory.
	built          = "../../target"
	targetVariable = "CARGO_TARGET_DIR"
	// repository is the root of the repository, seen from this directory.
	repository = "../.."
)

func builtDriver() (string, error) {
	return program(driverVariable, driverFile, "cargo build -p nomad-driver-pg-leader-proxy")
}

func builtLab() (string, error) {
	return program(labVariable, "lab", "cargo build -p lab")
}

func program(variable, name, make string) (string, error) {
	path := os.Getenv(variable)
	if path == "" {
		target := built
		if elsewhere := os.Getenv(targetVariable); elsewhere != "" {
			target = elsewhere
		}
		absolute, err := filepath.Abs(filepath.Join(target, "debug", name))
		if err != nil {
			return "", err
		}
		path = absolute
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s=%s is not an absolute path", variable, path)
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("no program at %s: build it (%s), or say where it is with %s", path, make, variable)
	}
	return path, nil
}
