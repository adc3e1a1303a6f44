package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

// Link is one connection to a peer. Its messages are served one after the other.
type Link struct {
	peer    *Peer
	fp      string
	began   time.Time
	work    chan func(*webrtc.PeerConnection)
	over    chan struct{}
	once    sync.Once
	lock    sync.Mutex // guards what follows
	session string
	offered bool // we made the first offer, and it was not answered yet
}

func newLink(peer *Peer, fp, session string) *Link {
	link := &Link{
		peer: peer, fp: fp, session: session, began: time.Now(),
		work: make(chan func(*webrtc.PeerConnection), 256), over: make(chan struct{}),
	}
	go link.run()
	return link
}

// Session names this connection among all that there were to this peer.
func (l *Link) Session() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.session
}

// Offering tells whether our first offer was not answered yet.
func (l *Link) Offering() bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.offered
}

// Begin opens a channel, and offers.
func (l *Link) Begin() {
	l.setOffered(true)
	l.Talk()
	l.do(l.offer)
}

// Talk opens a channel.
func (l *Link) Talk() {
	l.do(func(pc *webrtc.PeerConnection) {
		channel, err := pc.CreateDataChannel("data", nil)
		if err != nil {
			l.Close()
			return
		}
		channel.OnOpen(func() {
			l.report(pc)
			_ = channel.SendText("hello")
		})
		channel.OnMessage(func(message webrtc.DataChannelMessage) { fmt.Println("heard", string(message.Data)) })
	})
}

// Resume says again what may have been lost while there was no way to the peer.
func (l *Link) Resume() {
	l.do(func(pc *webrtc.PeerConnection) {
		if pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer {
			l.say(map[string]any{"offer": pc.LocalDescription(), "again": pc.CurrentRemoteDescription() != nil})
		} else if pc.ConnectionState() == webrtc.PeerConnectionStateConnected && l.peer.target != "" {
			l.offer(pc) // agree anew, so that what came to one side only while the server was away is known to both
		}
	})
}

// Hear serves a message of this session.
func (l *Link) Hear(message Message, bye bool) {
	l.do(func(pc *webrtc.PeerConnection) {
		var err error
		switch {
		case bye:
			l.Close()
		case message.Candidate != nil:
			_ = pc.AddICECandidate(*message.Candidate) // one that does not fit is passed over
		case message.Answer != nil && pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer:
			l.setOffered(false)
			err = pc.SetRemoteDescription(*message.Answer)
			fmt.Println("agreed", l.fp)
		case message.Offer != nil:
			err = l.answer(pc, *message.Offer)
		}
		if err != nil {
			l.Close()
		}
	})
}

// Close ends it, and tells the other side.
func (l *Link) Close() {
	l.once.Do(func() {
		l.say(map[string]any{"answer": nil})
		close(l.over)
		l.peer.forget(l)
	})
}

func (l *Link) run() {
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{
		ICEServers: l.peer.iceServers(), Certificates: []webrtc.Certificate{l.peer.identity.RTC()},
	})
	if err != nil {
		l.Close()
		return
	}
	defer pc.GracefulClose()
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate != nil {
			l.say(map[string]any{"candidate": candidate.ToJSON()})
		}
	})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
			l.Close()
		}
	})
	pc.OnDataChannel(l.welcome)
	for {
		select {
		case <-l.over:
			return
		case work := <-l.work:
			work(pc)
		}
	}
}

func (l *Link) do(work func(*webrtc.PeerConnection)) {
	select {
	case <-l.over:
	case l.work <- work:
	}
}

// welcome answers on a channel that the other side opened.
func (l *Link) welcome(channel *webrtc.DataChannel) {
	fmt.Println("channel", channel.Label(), "from", l.peer.nameOf(l.fp))
	channel.OnMessage(func(message webrtc.DataChannelMessage) {
		_ = channel.SendText(l.peer.name + " heard " + string(message.Data))
	})
}

func (l *Link) offer(pc *webrtc.PeerConnection) {
	offer, err := pc.CreateOffer(nil)
	if err == nil {
		err = pc.SetLocalDescription(offer)
	}
	if err != nil {
		l.Close()
		return
	}
	l.say(map[string]any{"offer": pc.LocalDescription(), "again": pc.CurrentRemoteDescription() != nil})
}

func (l *Link) answer(pc *webrtc.PeerConnection, offer webrtc.SessionDescription) error {
	if pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer {
		if l.peer.identity.Fingerprint > l.fp {
			return nil // both offer at once, and we are not the polite one
		}
		if err := pc.SetLocalDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeRollback}); err != nil {
			return err
		}
	}
	if err := pc.SetRemoteDescription(offer); err != nil {
		return err
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	if err := pc.SetLocalDescription(answer); err != nil {
		return err
	}
	l.say(map[string]any{"answer": pc.LocalDescription()})
	fmt.Println("agreed", l.fp)
	return nil
}

// report tells the server how it went, for the owner's page.
func (l *Link) report(pc *webrtc.PeerConnection) {
	result := "direct"
	if pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair(); err == nil && pair != nil {
		if pair.Local.Typ == webrtc.ICECandidateTypeRelay || pair.Remote.Typ == webrtc.ICECandidateTypeRelay {
			result = "relay"
		}
	}
	milliseconds := time.Since(l.began).Milliseconds()
	fmt.Println("open", l.peer.nameOf(l.fp), result, milliseconds)
	l.peer.say(map[string]any{"command": "outcome", "target": l.fp, "result": result, "ms": milliseconds})
}

func (l *Link) say(message map[string]any) {
	message["target"], message["session"] = l.fp, l.Session()
	l.peer.say(message)
}

func (l *Link) setOffered(offered bool) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.offered = offered
}
