package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"
)

// Identity is a DTLS certificate with its key. Its fingerprint is who we are.
type Identity struct {
	Fingerprint string // in the canonical form of the protocol: 64 upper-case hex digits
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// LoadIdentity reads the identity in a file that only its owner may read, or makes one.
func LoadIdentity(path string) (*Identity, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := makeIdentity(path); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	} else if info.Mode()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds a private key and is open to others: chmod 600 it, or begin with another", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return readIdentity(text)
}

func makeIdentity(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	now := time.Now() // no peer looks at the dates, the fingerprint is what counts (RFC 8122, section 5)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "peerbook"},
		NotBefore:    now.Add(-24 * time.Hour),
		NotAfter:     now.AddDate(100, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	return os.WriteFile(path, text, 0o600)
}

func readIdentity(text []byte) (*Identity, error) {
	private, rest := pem.Decode(text)
	public, _ := pem.Decode(rest)
	if private == nil || public == nil {
		return nil, errors.New("the key file holds no certificate with a key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(private.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key file holds no ECDSA key")
	}
	certificate, err := x509.ParseCertificate(public.Bytes)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(certificate.Raw)
	return &Identity{strings.ToUpper(hex.EncodeToString(digest[:])), certificate, key}, nil
}

// RTC is the same for pion.
func (i *Identity) RTC() webrtc.Certificate {
	return webrtc.CertificateFromX509(i.key, i.certificate)
}

// Proof signs the challenge of one connection (protocol, section 5).
func (i *Identity) Proof(origin, nonce string) (map[string]any, error) {
	challenge := strings.Repeat(" ", 64) + "peerbook-ws-v1\x00" + strings.Join([]string{origin, i.Fingerprint, nonce}, "\x00")
	digest := sha256.Sum256([]byte(challenge))
	signature, err := i.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"command":     "prove",
		"certificate": base64.StdEncoding.EncodeToString(i.certificate.Raw),
		"signature":   base64.StdEncoding.EncodeToString(signature),
	}, nil
}
