//! Blocking kernel primitives: links, veth, addresses, neighbours, namespaces, socket options.
