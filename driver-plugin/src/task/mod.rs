//! Tasks as the plugin knows them: what Nomad keeps of one, what lives, and the map of all.
