package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// startEtcd starts the store in this process, on the data of an earlier start if there is any; gives its address.
func startEtcd(ctx context.Context, home func(string) string) (*embed.Etcd, string, error) {
	clients, err := loopback()
	if err != nil {
		return nil, "", err
	}
	peers, err := loopback()
	if err != nil {
		return nil, "", err
	}
	config := embed.NewConfig()
	config.Dir = home("etcd")
	config.LogLevel = "error"
	config.LogOutputs = []string{home("etcd.log")}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// A test's data has to outlive the process, which the page cache does, and never the machine.
	config.UnsafeNoFsync = true
	store, err := embed.StartEtcd(config)
	if err != nil {
		return nil, "", err
	}
	select {
	case <-store.Server.ReadyNotify():
		return store, clients.String(), nil
	case err = <-store.Err():
	case <-time.After(timeToStart):
		err = fmt.Errorf("not ready within %v", timeToStart)
	case <-ctx.Done():
		err = ctx.Err()
	}
	store.Close()
	return nil, "", err
}

func loopback() (url.URL, error) {
	port, err := freePort()
	return url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}, err
}
