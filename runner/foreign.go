package runner

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// binfmtDir is where the kernel shows which programs it gives to interpreters
// (Linux, Documentation/admin-guide/binfmt-misc.rst).
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// ForeignError reports a program for another architecture that nothing on this
// machine can run.
type ForeignError struct {
	// Program is the path in the container; Arch is what it is for, "arm64".
	Program, Arch string
	// Interpreter is the emulator that is registered for it, but is not in the
	// container, where the kernel looks for it.
	Interpreter string
	// Unsure is set if it cannot be seen which emulators are registered, and the
	// program did not start.
	Unsure bool
}

func (e *ForeignError) Error() string {
	text := fmt.Sprintf("%s is a program for %s and this machine is %s", e.Program, e.Arch, runtime.GOARCH)
	switch {
	case e.Unsure:
		return fmt.Sprintf("%s: no emulator for %s seems to be registered (%s is not mounted)", text, e.Arch, binfmtDir)
	case e.Interpreter != "":
		return fmt.Sprintf("%s: its emulator %s is registered without the flag F, and is not in the image", text, e.Interpreter)
	}
	return fmt.Sprintf("%s: no emulator for %s is registered", text, e.Arch)
}

// Hint says what to do about it.
func (e *ForeignError) Hint() string {
	if e.Interpreter != "" {
		return "register it with the flag F (fix_binary: yes), as the package qemu-user-static does"
	}
	return "install one with 'apt-get install qemu-user-static' (Fedora: 'dnf install qemu-user-static')," +
		" or with 'lamina run --rm --privileged tonistiigi/binfmt --install " + e.Arch + "'"
}

// checkForeign tells whether the kernel cannot execute name, found in the path of
// env, in the filesystem at root, because it is for another architecture. An
// answer that is unsure counts if the program does not start.
func checkForeign(root, name string, env []string) *ForeignError {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(dir)
	program, head := findProgram(dir, name, env)
	arch := architecture(head)
	if arch == "" || slices.Contains(native(), arch) {
		return nil
	}
	foreign := &ForeignError{Program: program, Arch: arch}
	formats, err := readFormats(binfmtDir)
	if err != nil {
		foreign.Unsure = true
		return foreign
	}
	for _, f := range formats {
		if !f.matches(head) {
			continue
		}
		if _, err := readHead(dir, f.interpreter); f.fixed || err == nil {
			return nil
		}
		foreign.Interpreter = f.interpreter
	}
	return foreign
}

// headSize is how much of a program the kernel looks at.
const headSize = 256

// findProgram returns the program that runs if name does, and its first bytes: of
// a script that is its interpreter.
func findProgram(root int, name string, env []string) (program string, head []byte) {
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, kv := range slices.Backward(env) { // the last one counts
			if list, ok := strings.CutPrefix(kv, "PATH="); ok {
				for _, dir := range filepath.SplitList(list) {
					candidates = append(candidates, path.Join("/", dir, name))
				}
				break
			}
		}
	}
	for _, program = range candidates {
		var err error
		if head, err = readHead(root, program); err == nil {
			break
		}
	}
	const most = 4 // scripts that are interpreters of scripts, as in the kernel
	for range most {
		line, ok := bytes.CutPrefix(head, []byte("#!"))
		if !ok {
			break
		}
		line, _, _ = bytes.Cut(line, []byte("\n"))
		words := bytes.Fields(line)
		if len(words) == 0 {
			break
		}
		program = string(words[0])
		head, _ = readHead(root, program)
	}
	return program, head
}

// readHead returns the first bytes of the file called name.
func readHead(root int, name string) ([]byte, error) {
	fd, err := openInRoot(root, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if n == 0 {
		return nil, err
	}
	return head[:n], nil
}

// native are the architectures whose programs this machine may run by itself.
func native() []string {
	switch runtime.GOARCH {
	case "amd64":
		return []string{"amd64", "386"}
	case "arm64":
		return []string{"arm64", "arm"}
	}
	return []string{runtime.GOARCH}
}

// architecture is that of the ELF program which begins with head, by Go's name for
// it; "" if it is none, or of a kind that has no such name.
func architecture(head []byte) string {
	const machineAt = 18
	if len(head) < machineAt+2 || string(head[:4]) != elf.ELFMAG {
		return ""
	}
	var order binary.ByteOrder = binary.LittleEndian
	little := elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2LSB
	if !little {
		order = binary.BigEndian
	}
	wide := elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64
	pick := func(narrowBig, narrowLittle, wideBig, wideLittle string) string {
		switch {
		case wide && little:
			return wideLittle
		case wide:
			return wideBig
		case little:
			return narrowLittle
		}
		return narrowBig
	}
	switch elf.Machine(order.Uint16(head[machineAt:])) {
	case elf.EM_386:
		return "386"
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_ARM:
		return pick("armbe", "arm", "", "")
	case elf.EM_AARCH64:
		return pick("", "", "arm64be", "arm64")
	case elf.EM_RISCV:
		return pick("", "riscv", "", "riscv64")
	case elf.EM_PPC, elf.EM_PPC64:
		return pick("ppc", "", "ppc64", "ppc64le")
	case elf.EM_S390:
		return pick("s390", "", "s390x", "")
	case elf.EM_MIPS:
		return pick("mips", "mipsle", "mips64", "mips64le")
	case elf.EM_LOONGARCH:
		return pick("", "", "", "loong64")
	}
	return ""
}
