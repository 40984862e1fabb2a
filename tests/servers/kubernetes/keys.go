package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// keys is the authority that signs everyone's certificates.
type keys struct {
	authority *x509.Certificate
	key       *ecdsa.PrivateKey
	caPEM     []byte
}

// loadOrMakeKeys makes whatever key and certificate is not in the folder yet, the node's too if there is one: a server that is started again on its
// folder is trusted as before, and takes the tokens that it signed before.
func loadOrMakeKeys(home func(string) string, node string) (*keys, error) {
	if caPEM, err := os.ReadFile(home("ca.crt")); err == nil {
		return &keys{caPEM: caPEM}, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	made, err := newAuthority(home)
	if err != nil {
		return nil, err
	}
	if err := made.issue(home, "server", "kube-apiserver", nil); err != nil {
		return nil, err
	}
	if err := made.issue(home, "admin", "admin", []string{"system:masters"}); err != nil {
		return nil, err
	}
	if node != "" {
		if err := made.issue(home, "node", "system:node:"+node, []string{"system:nodes"}); err != nil {
			return nil, err
		}
	}
	accounts, err := newKey()
	if err != nil {
		return nil, err
	}
	if err := writeKey(home("accounts.key"), accounts); err != nil {
		return nil, err
	}
	// Last: with it there, everything is there.
	return made, os.WriteFile(home("ca.crt"), made.caPEM, 0o644)
}

func newAuthority(home func(string) string) (*keys, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "taffrail-tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	authority, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &keys{authority, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// issue writes a key and a certificate, NAME.key and NAME.crt: of a user, or of the server if there are no groups.
func (k *keys) issue(home func(string) string, name, user string, groups []string) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user, Organization: groups},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if groups == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 96, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, k.authority, key.Public(), k.key)
	if err != nil {
		return err
	}
	if err := writeKey(home(name+".key"), key); err != nil {
		return err
	}
	return os.WriteFile(home(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// writeKubeconfig writes into a file how the one whose certificate has this name reaches the server.
func writeKubeconfig(home func(string) string, file, server, who string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["tests"] = &clientcmdapi.Cluster{Server: server, CertificateAuthority: home("ca.crt")}
	config.AuthInfos[who] = &clientcmdapi.AuthInfo{ClientCertificate: home(who + ".crt"), ClientKey: home(who + ".key")}
	config.Contexts["tests"] = &clientcmdapi.Context{Cluster: "tests", AuthInfo: who}
	config.CurrentContext = "tests"
	return clientcmd.WriteToFile(*config, home(file))
}
