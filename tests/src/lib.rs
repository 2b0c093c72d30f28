//! Test kit and the integration stories.
