// Command kubernetes is a real Kubernetes API server for the tests: etcd, kube-apiserver and, if asked for, a few
// controllers, in one process on 127.0.0.1.
//
// What comes in: a folder, and flags. What goes out: one line on standard output once it takes requests,
//
//	ready https://127.0.0.1:PORT http://127.0.0.1:PORT
//
// the API server's address, and that of a plain door to it for the tests themselves, which has every right. In the
// folder: `kubeconfig` (every right, by certificate), `ca.crt`, and all that a second start on the same folder needs to be
// the same server again: keys, certificates and data. It ends by SIGTERM, or when its standard input closes: with the
// test that started it. There is no kubelet and no scheduler: whoever makes a pod names its node and writes its status. With
// -node there may be one of each beside it: `node.kubeconfig` is that kubelet's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
	_ "time/tzdata"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// timeToStart is how long it may take to be ready: on an idle machine 5 s, beside builds much more.
const timeToStart = 120 * time.Second

type settings struct {
	home        string
	port        int
	controllers bool
	node        string
	// Flags of kube-apiserver, after ours.
	flags []string
}

func main() {
	var s settings
	flag.StringVar(&s.home, "home", "", "folder for everything that it keeps")
	flag.IntVar(&s.port, "port", 0, "the API server's port (0: a free one)")
	flag.BoolVar(&s.controllers, "controllers", false, "run those of namespaces, service accounts, workloads and garbage")
	flag.StringVar(&s.node, "node", "", "the node whose kubelet will come")
	flag.Parse()
	s.flags = flag.Args()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		// Nobody writes to it: its end is the end of whoever started us.
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	home, err := prepareHome(s.home)
	if err != nil {
		return err
	}
	if s.port == 0 {
		if s.port, err = freePort(); err != nil {
			return err
		}
	}
	server := fmt.Sprintf("https://127.0.0.1:%d", s.port)
	keys, err := loadOrMakeKeys(home, s.node)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := writeKubeconfig(home, "kubeconfig", server, "admin"); err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	if s.node != "" {
		if err := writeKubeconfig(home, "node.kubeconfig", server, "node"); err != nil {
			return fmt.Errorf("kubeconfig: %w", err)
		}
	}
	admin := &rest.Config{
		Host: server, QPS: 500, Burst: 1000,
		TLSClientConfig: rest.TLSClientConfig{CAData: keys.caPEM, CertFile: home("admin.crt"), KeyFile: home("admin.key")},
	}

	store, etcd, err := startEtcd(ctx, home)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer store.Close()
	ended := make(chan error, 1)
	if err := startServer(ctx, home, s, etcd, ended); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	if err := waitUntilReady(ctx, admin, ended); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	if s.controllers {
		if err := startControllers(ctx, admin); err != nil {
			return fmt.Errorf("controllers: %w", err)
		}
	}
	door, err := openDoor(admin)
	if err != nil {
		return fmt.Errorf("the plain door: %w", err)
	}
	fmt.Printf("ready %s http://%s\n", server, door)

	select {
	case err = <-ended:
	case err = <-store.Err():
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// prepareHome makes the folder and gives a function that names files in it.
func prepareHome(home string) (func(string) string, error) {
	if home == "" {
		return nil, errors.New("say where to keep everything: -home FOLDER")
	}
	absolute, err := filepath.Abs(home)
	if err != nil {
		return nil, err
	}
	return func(name string) string { return filepath.Join(absolute, name) }, os.MkdirAll(absolute, 0o700)
}

// startServer runs kube-apiserver in the background; how it ended goes to ended.
func startServer(ctx context.Context, home func(string) string, s settings, etcd string, ended chan<- error) error {
	// No controller makes the `default` service account of each namespace, takes away taints or makes priority classes.
	disabled := "ServiceAccount,TaintNodesByCondition,Priority"
	if s.controllers {
		disabled = "TaintNodesByCondition,Priority"
	}
	var kubelet []string
	if s.node != "" {
		disabled = "TaintNodesByCondition"
		kubelet = []string{
			"--kubelet-preferred-address-types=InternalIP",
			"--kubelet-client-certificate=" + home("admin.crt"),
			"--kubelet-client-key=" + home("admin.key"),
		}
	}
	arguments := append([]string{
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", s.port),
		"--etcd-servers=" + etcd,
		"--cert-dir=" + home("generated"),
		"--tls-cert-file=" + home("server.crt"),
		"--tls-private-key-file=" + home("server.key"),
		"--client-ca-file=" + home("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + home("accounts.key"),
		"--service-account-signing-key-file=" + home("accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",
		"--disable-admission-plugins=" + disabled,
		"--endpoint-reconciler-type=none",
		"--profiling=false",
	}, append(kubelet, s.flags...)...)
	options := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range options.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if err := options.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	if err := logsapi.ValidateAndApply(options.Logs, utilfeature.DefaultFeatureGate); err != nil {
		return err
	}
	completed, err := options.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return utilerrors.NewAggregate(errs)
	}
	go func() {
		err := app.Run(ctx, completed)
		if err == nil {
			err = errors.New("it ended by itself")
		}
		ended <- err
	}()
	return nil
}

// waitUntilReady asks /readyz until it says yes.
func waitUntilReady(ctx context.Context, admin *rest.Config, ended <-chan error) error {
	client, err := rest.HTTPClientFor(admin)
	if err != nil {
		return err
	}
	client.Timeout = 5 * time.Second
	deadline := time.After(timeToStart)
	state := "no answer yet"
	for {
		reply, err := client.Get(admin.Host + "/readyz?verbose")
		if err == nil {
			body, _ := io.ReadAll(reply.Body)
			reply.Body.Close()
			if reply.StatusCode == 200 {
				return nil
			}
			state = string(body)
		}
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("not ready within %v: %s", timeToStart, state)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
