package runner

import (
	"strconv"
	"testing"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func victim(state, root string, args []string) {}

func TestHello(t *testing.T) {
	root := busyboxRoot(t)
	if got := output(t, root, "echo hello; echo $$; id; hostname; cat /proc/self/mounts; cat /proc/1/status; cat /etc/hosts; ls -la /dev /"); got != "hello" {
		t.Errorf("output is %q", got)
	}
}
