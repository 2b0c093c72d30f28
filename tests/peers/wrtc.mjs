// WebRTC for webtorrent in Node, under the names by which it imports them.
import wrtc from "@roamhq/wrtc";

export const {
  MediaStream,
  MediaStreamTrack,
  RTCDataChannel,
  RTCIceCandidate,
  RTCPeerConnection,
  RTCSessionDescription,
} = wrtc;
export default wrtc;
