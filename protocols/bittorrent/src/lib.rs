//! BitTorrentProtocol: sockets, trackers and the DHT around the swarm.
