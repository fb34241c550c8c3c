//! The rpcs of a task driver, in the order of the protocol. Each only translates and looks up.
