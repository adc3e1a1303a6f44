package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"
)

// Message is whatever travels on the socket; what is absent is nil or empty.
type Message struct {
	Code       int                        `json:"code"`
	ID         int                        `json:"id"`
	Text       string                     `json:"text"`
	Pair       string                     `json:"pair"`
	Nonce      string                     `json:"nonce"`
	Proof      string                     `json:"proof"`
	Peers      []Device                   `json:"peers"`
	IceServers []webrtc.ICEServer         `json:"ice_servers"`
	SourceFP   string                     `json:"source_fp"`
	Update     *Device                    `json:"peer_update"`
	Session    string                     `json:"session"`
	Again      bool                       `json:"again"`
	Offer      *webrtc.SessionDescription `json:"offer"`
	Answer     *webrtc.SessionDescription `json:"answer"`
	Candidate  *webrtc.ICECandidateInit   `json:"candidate"`
}

// Device is another peer of the book.
type Device struct {
	FP       string `json:"fp"`
	Name     string `json:"name"`
	Verified bool   `json:"verified"`
	Online   bool   `json:"online"`
}

// Peer is this device in its owner's book.
type Peer struct {
	server, origin, email, name, target string
	identity                            *Identity
	pauses                              Pauses

	lock    sync.Mutex // guards what follows
	socket  *websocket.Conn
	in      bool
	devices map[string]Device
	asked   []chan []webrtc.ICEServer
	links   map[string]*Link
}

// NewPeer is a device that connects to no server yet. It connects to target whenever that is online, if it is named.
func NewPeer(server, origin, email, name, target string, identity *Identity) *Peer {
	return &Peer{
		server: strings.TrimRight(server, "/"), origin: strings.TrimRight(origin, "/"), email: email, name: name, target: target, identity: identity,
		devices: map[string]Device{}, links: map[string]*Link{},
	}
}

// Run stays connected until the context ends, or until the server says that we shall not come back.
func (p *Peer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		code := p.converse(ctx)
		pause, again := p.pauses.After(code, time.Now())
		if !again {
			p.closeAll()
			return fmt.Errorf("closed with %d, for good", code)
		}
		fmt.Println("away", code)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	p.closeAll()
	return ctx.Err()
}

func (p *Peer) converse(ctx context.Context) int {
	query := url.Values{
		"fp": {p.identity.Fingerprint}, "email": {p.email}, "name": {p.name}, "kind": {"go"}, "proof": {"certificate"},
	}
	address := "ws" + strings.TrimPrefix(p.server, "http") + "/ws?" + query.Encode()
	socket, answer, err := websocket.Dial(ctx, address, nil)
	if err != nil {
		if answer != nil && answer.StatusCode == 429 {
			return 4429
		}
		return 1006
	}
	defer socket.CloseNow()
	socket.SetReadLimit(1 << 20)
	p.set(func() { p.socket = socket })
	defer p.set(func() { p.socket, p.in = nil, false })
	for {
		_, frame, err := socket.Read(ctx)
		if err != nil {
			if code := websocket.CloseStatus(err); code > 0 {
				return int(code)
			}
			return 1006
		}
		var message Message
		if json.Unmarshal(frame, &message) == nil {
			p.hear(message, frame)
		}
	}
}

func (p *Peer) hear(message Message, frame []byte) {
	switch {
	case message.IceServers != nil:
		p.set(func() {
			for _, each := range p.asked {
				each <- message.IceServers
			}
			p.asked = nil
		})
	case message.Peers != nil:
		p.list(message.Peers)
	case message.Update != nil:
		message.Update.FP = message.SourceFP
		p.update(*message.Update)
	case message.SourceFP != "":
		p.signal(message, strings.Contains(string(frame), `"answer":null`))
	case message.Code == 401 && (message.Nonce != "" || message.Pair != ""):
		fmt.Println("waiting", message.Pair)
		if message.Pair == "" && message.Proof == "" {
			return
		}
		if proof, err := p.identity.Proof(p.origin, message.Nonce); err == nil {
			p.say(proof) // shown while it waits, it lets us in when the owner approves
		}
	}
}

func (p *Peer) list(devices []Device) {
	p.pauses.Reset()
	p.set(func() {
		p.in = true
		p.devices = map[string]Device{}
		for _, device := range devices {
			p.devices[device.FP] = device
		}
	})
	fmt.Println("in")
	for _, device := range devices {
		p.follow(device)
	}
}

func (p *Peer) update(device Device) {
	p.set(func() { p.devices[device.FP] = device })
	p.follow(device)
}

// follow does what is due for a device that came, left or changed.
func (p *Peer) follow(device Device) {
	link := p.link(device.FP)
	switch {
	case !device.Verified && link != nil:
		link.Close()
	case device.Verified && device.Online && link != nil:
		link.Resume()
	case device.Verified && device.Online && device.Name == p.target && device.FP != p.identity.Fingerprint:
		p.open(device.FP, newSession()).Begin()
	}
}

func (p *Peer) signal(message Message, bye bool) {
	fp, description := message.SourceFP, message.Offer
	if description == nil {
		description = message.Answer
	}
	if description != nil && !IsHonest(description.SDP, fp) {
		fmt.Println("refused", fp)
		return
	}
	link, gaveWay := p.link(fp), false
	if message.Offer != nil && (link == nil || link.Session() != message.Session) {
		if message.Again { // we have lost that one
			p.say(map[string]any{"target": fp, "answer": nil, "session": message.Session})
			return
		}
		if link != nil {
			if link.Offering() && p.identity.Fingerprint > fp {
				return // both offer at once, and we are not the polite one
			}
			gaveWay = link.Offering()
			link.Close()
		}
		link = p.open(fp, message.Session)
	}
	if link == nil || (message.Session != "" && message.Session != link.Session()) {
		return
	}
	link.Hear(message, bye)
	if gaveWay {
		link.Talk()
	}
}

// iceServers are those of now: their credentials don't last.
func (p *Peer) iceServers() []webrtc.ICEServer {
	answer := make(chan []webrtc.ICEServer, 1)
	p.set(func() { p.asked = append(p.asked, answer) })
	p.say(map[string]any{"command": "ice_servers"})
	select {
	case servers := <-answer:
		return servers
	case <-time.After(5 * time.Second):
		return nil
	}
}

func (p *Peer) open(fp, session string) *Link {
	link := newLink(p, fp, session)
	p.set(func() { p.links[fp] = link })
	return link
}

func (p *Peer) link(fp string) (link *Link) {
	p.set(func() { link = p.links[fp] })
	return
}

func (p *Peer) nameOf(fp string) (name string) {
	p.set(func() { name = p.devices[fp].Name })
	return
}

func (p *Peer) forget(link *Link) {
	p.set(func() {
		if p.links[link.fp] == link {
			delete(p.links, link.fp)
		}
	})
	fmt.Println("closed", link.fp)
}

func (p *Peer) closeAll() {
	var links []*Link
	p.set(func() {
		for _, link := range p.links {
			links = append(links, link)
		}
	})
	for _, link := range links {
		link.Close()
	}
}

func (p *Peer) say(message map[string]any) {
	var socket *websocket.Conn
	p.set(func() { socket = p.socket })
	if socket == nil {
		return
	}
	frame, err := json.Marshal(message)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = socket.Write(ctx, websocket.MessageText, frame) // if it fails, the reader hears of that
}

func (p *Peer) set(change func()) {
	p.lock.Lock()
	defer p.lock.Unlock()
	change()
}

func newSession() string { return rand.Text() }
