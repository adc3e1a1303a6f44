package main

import (
	"math"
	"math/rand/v2"
	"time"
)

var pauses = map[int][2]float64{1001: {0, 5}, 4401: {60, 120}, 4408: {60, 90}, 4409: {60, 90}, 4429: {60, 90}}

// Pauses says how long to stay away after a close code (protocol, section 4).
type Pauses struct {
	tries    int
	replaced []time.Time
}

// Reset says that we were in.
func (p *Pauses) Reset() { p.tries = 0 }

// After is the time until the next try; false for never.
func (p *Pauses) After(code int, now time.Time) (time.Duration, bool) {
	switch code {
	case 1002, 1007, 1009, 4403: // we are wrong, or not wanted
		return 0, false
	case 4409:
		var recent []time.Time
		for _, at := range p.replaced {
			if now.Sub(at) < 10*time.Minute {
				recent = append(recent, at)
			}
		}
		p.replaced = append(recent, now)
		if len(p.replaced) >= 3 {
			return 0, false
		}
	}
	from, to := 0.0, math.Min(30, math.Pow(2, float64(p.tries)))
	if pause, known := pauses[code]; known {
		from, to = pause[0], pause[1]
	} else {
		p.tries++
	}
	return time.Duration((from + rand.Float64()*(to-from)) * float64(time.Second)), true
}
