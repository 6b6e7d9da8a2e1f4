//! What the plugin has to say to the node's operator; the runtime keeps stderr with its own log.

/// Lines for stderr, in order.
#[derive(Debug, Default)]
pub(crate) struct Log(Vec<String>);

impl Log {
    pub(crate) fn warn(&mut self, text: impl std::fmt::Display) {
        self.0.push(format!("warning: {text}"));
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0
    }
}
