// Command node is what a machine needs beside containerd to be a Kubernetes node for the tests: kubelet, kube-scheduler and
// kubectl in one program, and a forwarder of TCP.
//
//	node kubelet|scheduler|kubectl FLAGS...
//	node forward FROM TO
//
// What comes in: the flags of each, as Kubernetes documents them. The forwarder stands where kube-proxy does elsewhere: it
// brings connections to a service's address to the one server behind it, until it is killed.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	_ "time/tzdata"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	what := ""
	if len(os.Args) > 1 {
		what = os.Args[1]
		// Each of them takes itself for the program.
		os.Args = os.Args[1:]
	}
	switch what {
	case "kubelet":
		os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
	case "scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			util.CheckErr(err)
		}
	case "forward":
		if len(os.Args) == 3 {
			fmt.Fprintln(os.Stderr, "node:", forward(os.Args[1], os.Args[2]))
			os.Exit(1)
		}
		fallthrough
	default:
		fmt.Fprintln(os.Stderr, "node kubelet|scheduler|kubectl FLAGS... | node forward FROM TO")
		os.Exit(2)
	}
}

// forward passes on what comes to one address to the other, both ways.
func forward(from, to string) error {
	listener, err := net.Listen("tcp", from)
	if err != nil {
		return err
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer server.Close()
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(client, server)
		}()
	}
}
