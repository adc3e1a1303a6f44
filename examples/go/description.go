package main

import (
	"regexp"
	"strings"
)

var (
	fingerprintLine = regexp.MustCompile(`(?im)^a=fingerprint:sha-256 ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})\r?$`)
	fingerprintWord = regexp.MustCompile(`(?i)fingerprint`)
)

// IsHonest tells whether every fingerprint in a description is fp, in SHA-256, and there is one (RFC 8122, section 5).
func IsHonest(sdp, fp string) bool {
	lines := fingerprintLine.FindAllStringSubmatch(sdp, -1)
	if len(lines) == 0 || len(lines) != len(fingerprintWord.FindAllString(sdp, -1)) {
		return false
	}
	for _, line := range lines {
		if strings.ToUpper(strings.ReplaceAll(line[1], ":", "")) != fp {
			return false
		}
	}
	return true
}
