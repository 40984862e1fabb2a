package main

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"k8s.io/client-go/rest"
)

// openDoor listens on loopback without TLS and passes everything on with the administrator's rights, so that the tests'
// own requests need no TLS, and their crate brings no second set of features into how the agent is built.
func openDoor(admin *rest.Config) (net.Addr, error) {
	target, err := url.Parse(admin.Host)
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(admin)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(request *httputil.ProxyRequest) { request.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
	}
	// It ends with the process.
	go func() { _ = http.Serve(listener, proxy) }()
	return listener.Addr(), nil
}
