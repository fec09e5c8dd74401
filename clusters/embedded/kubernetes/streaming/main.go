// Command streaming is what `kubectl exec`, `attach`, `cp` and `port-forward` talk to, through the API server and the
// kubelet.
//
// Place: the runtime of each node starts one (`streaming --control SOCKET --attach SOCKET`) and asks it on the control
// socket for the URL that it answers the kubelet with; the protocols are k8s.io/cri-streaming's own. Limits: it knows
// nothing of containers: the runtime says which argument list enters one, where its root is, and which file is the
// network namespace of a pod; attached streams it fetches from the runtime.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// lingering is how long a process left behind may hold the output of an ended command.
const lingering = time.Second

// streams carries data between a client and a process, with nothing in between but the kernel.
type streams struct {
	attach string // the runtime's socket for streams of running containers
}

func main() {
	fmt.Fprintln(os.Stderr, "streaming:", run(os.Args[1:]))
	os.Exit(1)
}

func run(args []string) error {
	flags := flag.NewFlagSet("streaming", flag.ContinueOnError)
	control := flags.String("control", "", "unix socket on which the runtime asks for URLs")
	attach := flags.String("attach", "", "unix socket on which the runtime offers the streams of its containers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *control == "" || *attach == "" {
		return errors.New("--control and --attach must each name a socket")
	}
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config := streaming.DefaultConfig
	config.Addr = door.Addr().String()
	server, err := streaming.NewServer(config, streams{attach: *attach})
	if err != nil {
		return err
	}
	if err := os.Remove(*control); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", *control)
	if err != nil {
		return err
	}
	failed := make(chan error, 2) // nothing but an error ends it; the runtime kills it
	go func() { failed <- noticing(server).Serve(noticingListener{door}) }()
	go func() { failed <- http.Serve(listener, controlAPI(server)) }()
	return <-failed
}

// noticing serves requests whose context ends with their connection; net/http's own would not, once a protocol that is
// not HTTP has taken the connection over.
func noticing(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ConnContext: func(_ context.Context, connection net.Conn) context.Context {
		return connection.(noticed).present
	}}
}

type noticingListener struct{ net.Listener }

func (l noticingListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	present, gone := context.WithCancel(context.Background())
	return noticed{connection, present, gone}, nil
}

// noticed is a connection that tells when its other side is gone.
type noticed struct {
	net.Conn
	present context.Context
	gone    context.CancelFunc
}

func (c noticed) Read(data []byte) (int, error) {
	count, err := c.Conn.Read(data)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // net/http ends a read of its own with a deadline
		c.gone()
	}
	return count, err
}

func (c noticed) Close() error {
	c.gone()
	return c.Conn.Close()
}

// controlAPI answers the runtime: a CRI request as JSON, the URL for the kubelet as text.
func controlAPI(server streaming.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /exec", answer(func(request *runtimeapi.ExecRequest) (string, error) {
		response, err := server.GetExec(request)
		return response.GetUrl(), err
	}))
	mux.HandleFunc("POST /attach", answer(func(request *runtimeapi.AttachRequest) (string, error) {
		response, err := server.GetAttach(request)
		return response.GetUrl(), err
	}))
	mux.HandleFunc("POST /portforward", answer(func(request *runtimeapi.PortForwardRequest) (string, error) {
		if request.PodSandboxId == "" {
			request.PodSandboxId = "/proc/self/ns/net" // a pod on its node's network
		}
		response, err := server.GetPortForward(request)
		return response.GetUrl(), err
	}))
	return mux
}

func answer[Request any](url func(*Request) (string, error)) http.HandlerFunc {
	return func(writer http.ResponseWriter, got *http.Request) {
		request := new(Request)
		err := json.NewDecoder(got.Body).Decode(request)
		var found string
		if err == nil {
			found, err = url(request)
		}
		if err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		io.WriteString(writer, found)
	}
}

// Exec runs an argument list that enters a container; root is the container's root folder as seen from here.
func (streams) Exec(
	ctx context.Context, root string, argv []string, in io.Reader, out, errOut io.WriteCloser, tty bool,
	resize <-chan remotecommand.TerminalSize,
) error {
	command := exec.Command(argv[0], argv[1:]...)
	command.Env = []string{}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	command.WaitDelay = lingering
	if tty {
		return execInTerminal(ctx, root, command, in, out, resize)
	}
	if out != nil {
		command.Stdout = out
	}
	if errOut != nil {
		command.Stderr = errOut
	}
	var stdin io.WriteCloser
	if in != nil {
		pipe, err := command.StdinPipe()
		if err != nil {
			return err
		}
		stdin = pipe
	}
	if err := command.Start(); err != nil {
		return err
	}
	if stdin != nil {
		// Not waited for: the client may keep its side open after the command has ended.
		go func() {
			io.Copy(stdin, in)
			stdin.Close()
		}()
	}
	defer killWhenDone(ctx, command)()
	return exitCode(command.Wait())
}

func execInTerminal(
	ctx context.Context, root string, command *exec.Cmd, in io.Reader, out io.Writer,
	resize <-chan remotecommand.TerminalSize,
) error {
	outer, inner, err := openTerminal(root)
	if err != nil {
		return err
	}
	defer outer.Close()
	// It becomes the controlling terminal in the container, by the launch program: a shell whose session had a leader
	// outside of its PID namespace could not give the terminal back.
	command.Stdin, command.Stdout, command.Stderr = inner, inner, inner
	err = command.Start()
	inner.Close()
	if err != nil {
		return err
	}
	go func() {
		for size := range resize {
			unix.IoctlSetWinsize(int(outer.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
		}
	}()
	if in != nil {
		go io.Copy(outer, in)
	}
	copied := make(chan struct{})
	if out != nil {
		go func() {
			io.Copy(out, outer) // ends with EIO when the last process closes the terminal
			close(copied)
		}()
	} else {
		close(copied)
	}
	defer killWhenDone(ctx, command)()
	err = command.Wait()
	select {
	case <-copied:
	case <-time.After(lingering):
	}
	return exitCode(err)
}

// openTerminal makes a pseudo-terminal in the devpts of the container with that root, so that its programs find its name.
func openTerminal(root string) (outer, inner *os.File, err error) {
	number, err := unix.Open(root+"/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("no terminal can be had in the container: %w", err)
	}
	outer = os.NewFile(uintptr(number), "terminal")
	if err := unix.IoctlSetPointerInt(number, unix.TIOCSPTLCK, 0); err != nil {
		outer.Close()
		return nil, nil, fmt.Errorf("the container's terminal cannot be unlocked: %w", err)
	}
	peer, _, failed := unix.Syscall(
		unix.SYS_IOCTL, uintptr(number), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if failed != 0 {
		outer.Close()
		return nil, nil, fmt.Errorf("the container's terminal cannot be opened: %w", failed)
	}
	return outer, os.NewFile(peer, "terminal"), nil
}

// killWhenDone ends the command's whole session when the client is gone; the returned function calls it off.
func killWhenDone(ctx context.Context, command *exec.Cmd) func() bool {
	return context.AfterFunc(ctx, func() { syscall.Kill(-command.Process.Pid, syscall.SIGKILL) })
}

func exitCode(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &exit):
		status := exit.Sys().(syscall.WaitStatus)
		code := status.ExitStatus()
		if status.Signaled() {
			code = 128 + int(status.Signal())
		}
		return &utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return err
}

// Attach joins a client with the streams of a running container, which the runtime holds.
func (s streams) Attach(
	ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, tty bool,
	resize <-chan remotecommand.TerminalSize,
) error {
	var outputs sync.WaitGroup
	for name, stream := range map[string]io.WriteCloser{"stdout": out, "stderr": errOut} {
		if stream == nil {
			continue
		}
		source, err := s.open(ctx, id, name)
		if err != nil {
			return err
		}
		outputs.Go(func() { io.Copy(stream, source) })
	}
	if in != nil {
		target, err := s.open(ctx, id, "stdin")
		if err != nil {
			return err
		}
		go func() {
			io.Copy(target, in)
			target.CloseWrite()
		}()
	}
	if tty {
		target, err := s.open(ctx, id, "resize")
		if err != nil {
			return err
		}
		go func() {
			for size := range resize {
				fmt.Fprintf(target, "{\"width\": %d, \"height\": %d}\n", size.Width, size.Height)
			}
		}()
	}
	outputs.Wait()
	return nil
}

// open connects to the runtime for one stream of a container, until the client is gone.
func (s streams) open(ctx context.Context, id, stream string) (*net.UnixConn, error) {
	connection, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: s.attach, Net: "unix"})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { connection.Close() })
	err = json.NewEncoder(connection).Encode(map[string]string{"container": id, "stream": stream})
	return connection, err
}

// PortForward joins a client with a port on the loopback of the network namespace that the file holds.
func (streams) PortForward(ctx context.Context, namespace string, port int32, stream io.ReadWriteCloser) error {
	connection, err := dialWithin(ctx, namespace, port)
	if err != nil {
		return err
	}
	defer connection.Close()
	answered := make(chan struct{})
	go func() {
		io.Copy(stream, connection)
		close(answered)
	}()
	go func() {
		io.Copy(connection, stream)
		connection.CloseWrite()
	}()
	// A client that is done asking may still wait for the answer; one that is gone may not.
	select {
	case <-answered:
	case <-ctx.Done():
	}
	return nil
}

// dialWithin connects from inside another network namespace, on a thread that is given up afterwards.
func dialWithin(ctx context.Context, namespace string, port int32) (*net.TCPConn, error) {
	type result struct {
		connection net.Conn
		err        error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is in another network, so it ends with this goroutine
		handle, err := netns.GetFromPath(namespace)
		if err == nil {
			err = netns.Set(handle)
			handle.Close()
		}
		if err != nil {
			done <- result{err: fmt.Errorf("the pod's network cannot be entered: %w", err)}
			return
		}
		connection, err := dialLoopback(ctx, strconv.Itoa(int(port)))
		done <- result{connection, err}
	}()
	found := <-done
	if found.err != nil {
		return nil, found.err
	}
	return found.connection.(*net.TCPConn), nil
}

// dialLoopback tries IPv4 first; net.Dialer would try both on threads of its own, in the wrong network.
func dialLoopback(ctx context.Context, port string) (net.Conn, error) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", port))
	if err == nil {
		return connection, nil
	}
	if second, failed := dialer.DialContext(ctx, "tcp6", net.JoinHostPort("::1", port)); failed == nil {
		return second, nil
	}
	return nil, err
}
