//! One torrent, driven: peers over any byte stream, readers, upload.
