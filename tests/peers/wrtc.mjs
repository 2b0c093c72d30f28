// WebRTC for webtorrent in Node, under the names by which it imports them.
import wrtc from "@roamhq/wrtc";

// While it is busy it gathers its TCP candidates over and over, which nobody here uses: 9 KiB of them were seen in one
// description, and a tracker takes 8.
const overTcp = /^a=candidate:\S+ \d+ tcp .*\r\n/gim;

class RTCPeerConnection extends wrtc.RTCPeerConnection {
  get localDescription() {
    const whole = super.localDescription;
    return whole && { type: whole.type, sdp: whole.sdp.replace(overTcp, "") };
  }
}

export const { MediaStream, MediaStreamTrack, RTCDataChannel, RTCIceCandidate, RTCSessionDescription } = wrtc;
export { RTCPeerConnection };
export default { ...wrtc, RTCPeerConnection };
