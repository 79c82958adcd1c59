package runner

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// elfHead is the beginning of a program.
func elfHead(class elf.Class, data elf.Data, machine elf.Machine) []byte {
	head := append([]byte(elf.ELFMAG), byte(class), byte(data), byte(elf.EV_CURRENT))
	head = append(head, make([]byte, 64-len(head))...)
	var order binary.ByteOrder = binary.LittleEndian
	if data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	order.PutUint16(head[16:], uint16(elf.ET_EXEC))
	order.PutUint16(head[18:], uint16(machine))
	return head
}

func TestArchitecture(t *testing.T) {
	for _, tc := range []struct {
		head []byte
		want string
	}{
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_AARCH64), "arm64"},
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_X86_64), "amd64"},
		{elfHead(elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_386), "386"},
		{elfHead(elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_ARM), "arm"},
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_RISCV), "riscv64"},
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2MSB, elf.EM_S390), "s390x"},
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_PPC64), "ppc64le"},
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2MSB, elf.EM_PPC64), "ppc64"},
		{elfHead(elf.ELFCLASS32, elf.ELFDATA2MSB, elf.EM_MIPS), "mips"},
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_MIPS), "mips64le"},
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_LOONGARCH), "loong64"},
		{elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_VAX), ""},
		{[]byte("#!/bin/sh\n"), ""},
		{[]byte(elf.ELFMAG), ""},
		{nil, ""},
	} {
		if got := architecture(tc.head); got != tc.want {
			t.Errorf("architecture(% x) = %q, want %q", tc.head, got, tc.want)
		}
	}
}

// qemuAarch64 is what the kernel shows of Debian's entry.
const qemuAarch64 = `enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
`

func TestReadFormats(t *testing.T) {
	dir := t.TempDir()
	if _, err := readFormats(dir); err == nil {
		t.Error("a directory without binfmt_misc is no error")
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("status", "enabled\n")
	write("register", "")
	write("qemu-aarch64", qemuAarch64)
	write("jar", "enabled\ninterpreter /usr/bin/jexec\nflags: \noffset 0\nmagic 504b0304\n")
	write("off", "disabled\ninterpreter /off\nflags: \noffset 0\nmagic 00\n")
	write("byname", "enabled\ninterpreter /name\nflags: \nextension .exe\n")
	formats, err := readFormats(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range formats {
		names = append(names, f.interpreter)
	}
	want := []string{"/usr/bin/jexec", "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatal(diff)
	}
	arm := elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_AARCH64)
	if formats[0].matches(arm) || !formats[1].matches(arm) || formats[1].matches(arm[:10]) ||
		formats[1].matches(elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_RISCV)) {
		t.Error("programs are given to the wrong interpreter")
	}
	if !formats[1].fixed || formats[0].fixed {
		t.Error("the flag F is misread")
	}
	write("status", "disabled\n")
	if formats, err := readFormats(dir); err != nil || len(formats) != 0 {
		t.Errorf("binfmt_misc is disabled, but there are %v, %v", formats, err)
	}
}

func TestFindProgram(t *testing.T) {
	root := t.TempDir()
	arm := elfHead(elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_AARCH64)
	for name, data := range map[string][]byte{
		"bin/tool": arm, "usr/bin/script": []byte("#! /opt/interp -x\n"), "opt/interp": []byte("#!/bin/tool"), "empty": nil,
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/bin/tool", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	env := []string{"PATH=/nowhere:/usr/bin:/bin"}
	for _, tc := range []struct{ name, program, arch string }{
		{"tool", "/bin/tool", "arm64"},
		{"/bin/tool", "/bin/tool", "arm64"},
		{"/link", "/link", "arm64"},
		{"script", "/bin/tool", "arm64"},
		{"/empty", "/empty", ""},
		{"nosuch", "/bin/nosuch", ""},
	} {
		program, head := findProgram(int(dir.Fd()), tc.name, env)
		if program != tc.program || architecture(head) != tc.arch {
			t.Errorf("findProgram(%s) = %s for %q, want %s for %q", tc.name, program, architecture(head), tc.program, tc.arch)
		}
	}
	if err := checkForeign(root, "/empty", env); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := checkForeign("/", self, env); err != nil {
		t.Errorf("this program: %v", err)
	}
}

func TestForeignError(t *testing.T) {
	err := &ForeignError{Program: "/bin/sh", Arch: "s390x"}
	if want := "/bin/sh is a program for s390x and this machine is " + runtime.GOARCH + ": no emulator for s390x is registered"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}
