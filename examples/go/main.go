// A peer of a peerbook in Go: it keeps its certificate, proves it, answers whoever connects to it, and with -connect
// connects to another device. What travels is in docs/protocol.md, how peers use it in docs/clients.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	server := flag.String("server", "http://localhost:8000", "the peerbook's origin")
	origin := flag.String("origin", "", "the server's BASE_URL, where it is reached by another address")
	email := flag.String("email", "", "your mail address")
	name := flag.String("name", "gopher", "how this device is called")
	key := flag.String("key", "peerbook.pem", "certificate and private key, made where there are none")
	target := flag.String("connect", "", "a device, by its name, to open a channel to")
	flag.Parse()
	log.SetFlags(0)

	identity, err := LoadIdentity(*key)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Println("fp", identity.Fingerprint)
	if *origin == "" {
		*origin = *server
	}
	peer := NewPeer(*server, *origin, *email, *name, *target, identity)
	if err := peer.Run(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}
