// Launch is the last step into a container: it takes on the container's user, groups, capabilities and system call
// filter, and becomes the container's program.
//
// Place: the runtime puts it behind bubblewrap (start) and nsenter (exec), which run with all capabilities of the pod's
// user namespace. It is linked statically and read from a sealed file of the runtime's, so nothing in the container,
// neither its files nor its variables, acts on it. Limits: Linux; it makes no namespaces and no mounts.
//
// Usage: launch SETTINGS [NAME=VALUE ...] PROGRAM [ARGUMENT ...]
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"
)

// Settings come as JSON; launch.py writes them.
type settings struct {
	UID          uint32   `json:"uid"`
	GID          uint32   `json:"gid"`
	Groups       []uint32 `json:"groups"`       // null: leave them as they are
	Capabilities uint64   `json:"capabilities"` // a bit for each that the program may hold
	Filter       []byte   `json:"filter"`       // struct sock_filter[]; empty: none, or already in force
	Directory    string   `json:"directory"`
	Variables    int      `json:"variables"` // how many follow
	Terminal     bool     `json:"terminal"`  // standard input is one, and becomes the program's own
	Report       int      `json:"report"`    // descriptor that is told "." at the start and then why it failed; 0: none
}

const (
	tiocSCTTY       = 0x540E
	prCapBSetRead   = 23
	prCapBSetDrop   = 24
	prSetSeccomp    = 22
	prSetNoNewPrivs = 38
	seccompFilter   = 2
	closeRangeExec  = 4
	sysCloseRange   = 436
	capVersion3     = 0x20080522
	notFound        = 127
	notExecutable   = 126
)

// What the kernel is given by address lies here, for Go moves what lies on a stack.
var (
	header struct {
		version uint32
		pid     int32
	}
	sets    [2]struct{ effective, permitted, inheritable uint32 }
	program struct {
		length uint16
		first  *byte
	}
)

func main() {
	runtime.LockOSThread() // rights belong to a thread, and this one becomes the program
	var wanted settings
	if err := json.Unmarshal([]byte(os.Args[1]), &wanted); err != nil {
		fail(0, fmt.Errorf("settings: %w", err))
	}
	environment, command := os.Args[2:2+wanted.Variables], os.Args[2+wanted.Variables:]
	call("close_range", sysCloseRange, 3, uintptr(^uint32(0)), closeRangeExec)
	if wanted.Report > 0 {
		syscall.Write(wanted.Report, []byte("."))
	}
	if err := become(wanted, environment, command); err != nil {
		fail(wanted.Report, err)
	}
}

func become(wanted settings, environment, command []string) error {
	if wanted.Terminal {
		syscall.Setsid() // refused where bubblewrap has done so
		if err := call("ioctl(TIOCSCTTY)", syscall.SYS_IOCTL, 0, tiocSCTTY, 0); err != nil {
			return err
		}
		syscall.Fchown(0, int(wanted.UID), -1) // refused where there is one id only, which owns it already
	}
	if err := takeOn(wanted); err != nil {
		return err
	}
	if err := syscall.Chdir(wanted.Directory); err != nil {
		return fmt.Errorf("working directory %q: %w", wanted.Directory, err)
	}
	os.Clearenv()
	for _, entry := range environment {
		for i := range entry {
			if entry[i] == '=' {
				os.Setenv(entry[:i], entry[i+1:])
				break
			}
		}
	}
	program, err := exec.LookPath(command[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return err // as in: exec: "nginx": executable file not found in $PATH
	}
	return &exec.Error{Name: command[0], Err: syscall.Exec(program, command, environment)}
}

// The order matters: groups and the bounding set can be changed only while this is still user 0.
func takeOn(wanted settings) error {
	if wanted.Groups != nil {
		var first unsafe.Pointer
		if len(wanted.Groups) > 0 {
			first = unsafe.Pointer(&wanted.Groups[0])
		}
		if err := call("setgroups", syscall.SYS_SETGROUPS, uintptr(len(wanted.Groups)), uintptr(first), 0); err != nil {
			return err
		}
	}
	gid, uid := uintptr(wanted.GID), uintptr(wanted.UID)
	if err := call("setresgid", syscall.SYS_SETRESGID, gid, gid, gid); err != nil {
		return err
	}
	for capability := uintptr(0); capability < 64; capability++ {
		held, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prCapBSetRead, capability, 0)
		if errno != 0 {
			break // the kernel knows no higher one
		}
		if held == 1 && wanted.Capabilities&(1<<capability) == 0 {
			err := call("prctl(PR_CAPBSET_DROP)", syscall.SYS_PRCTL, prCapBSetDrop, capability, 0)
			if errors.Is(err, syscall.EPERM) && uid != 0 && os.Getuid() != 0 {
				break // no user 0 here: what it does not hold, it can never gain
			} else if err != nil {
				return err
			}
		}
	}
	if err := call("setresuid", syscall.SYS_SETRESUID, uid, uid, uid); err != nil {
		return err
	}
	kept := wanted.Capabilities
	if uid != 0 {
		kept = 0
	}
	if err := hold(kept); err != nil {
		return err
	}
	if err := call("prctl(PR_SET_NO_NEW_PRIVS)", syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0); err != nil {
		return err
	}
	return filter(wanted.Filter)
}

// Hold keeps these of the capabilities that this process has, and makes none of them inheritable.
func hold(capabilities uint64) error {
	header.version = capVersion3
	if err := call("capget", syscall.SYS_CAPGET, address(&header), address(&sets), 0); err != nil {
		return err
	}
	for half := range sets {
		kept := sets[half].permitted & uint32(capabilities>>(32*half))
		sets[half].effective, sets[half].permitted, sets[half].inheritable = kept, kept, 0
	}
	return call("capset", syscall.SYS_CAPSET, address(&header), address(&sets), 0)
}

func filter(code []byte) error {
	if len(code) == 0 {
		return nil
	}
	program.length, program.first = uint16(len(code)/8), &code[0]
	return call("prctl(PR_SET_SECCOMP)", syscall.SYS_PRCTL, prSetSeccomp, seccompFilter, address(&program))
}

func address[T any](value *T) uintptr {
	return uintptr(unsafe.Pointer(value))
}

// Call acts on this thread only, unlike the wrappers of package syscall.
func call(name string, number, first, second, third uintptr) error {
	if _, _, errno := syscall.RawSyscall(number, first, second, third); errno != 0 {
		return fmt.Errorf("%s: %w", name, errno)
	}
	return nil
}

func fail(report int, err error) {
	status := notExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, syscall.ENOENT) {
		status = notFound
	}
	if report > 0 {
		syscall.Write(report, []byte(err.Error()))
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}
