//! What is known of the driver before anything happens: name, versions, capabilities.
