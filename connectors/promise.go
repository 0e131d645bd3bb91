package connectors

import "strings"

// Promise is what a transport of this module says of itself, which planners read: what it carries, and what of that it
// cannot promise. What stands in no promise is the same everywhere: order, no duplicates, the marks and the end.
type Promise struct {
	// Scheme is the transport's, Media the beginning of the media types that it carries; "" is all of them.
	Scheme, Media string
	// Loses says that an ADU may be missing (Stats.Lost), so that nothing waits for what the network has lost.
	Loses bool
}

// Promises are those of all transports.
func Promises() []Promise {
	return []Promise{
		{Scheme: "mem"},
		{Scheme: "tcp"},
		{Scheme: "udp", Loses: true},
		{Scheme: "rtp", Media: "audio/L16", Loses: true},
		{Scheme: "rtp", Media: "audio/PCMU", Loses: true},
		{Scheme: "rtp", Media: "audio/PCMA", Loses: true},
		{Scheme: "rtp", Media: "audio/opus", Loses: true},
		{Scheme: "rtp", Media: "text/t140", Loses: true},
		{Scheme: "webrtc", Media: "audio/opus", Loses: true},
		{Scheme: "webrtc", Media: "audio/PCMU", Loses: true},
		{Scheme: "webrtc", Media: "audio/PCMA", Loses: true},
		{Scheme: "webrtc", Media: "text/"},
		{Scheme: "webrtc", Media: "image/"},
		{Scheme: "webrtc", Media: "application/"},
	}
}

// BearsLoss reports whether whoever takes a media type knows what to do without a part of it: sound is concealed, and text
// as it is typed repeats itself and shows a gap. Of all else only an operator can say so, by naming a transport that
// loses.
func BearsLoss(media string) bool {
	return strings.HasPrefix(media, "audio/") || strings.HasPrefix(media, "video/") || strings.HasPrefix(media, "text/t140")
}
