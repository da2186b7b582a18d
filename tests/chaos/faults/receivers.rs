//! An endpoint fails.

use super::{Verdict, really};
use crate::chaos::receiver::Manner;
use crate::chaos::schedule::Fault;
use crate::chaos::stack::Stack;

pub async fn misbehave(stack: &Stack, fault: Fault, manner: Manner) -> Result<Verdict, String> {
    let before = stack.receiver.treated(fault.target, manner);
    stack.receiver.behave(fault.target, manner);
    // It fails for that long.
    tokio::time::sleep(fault.hold).await;
    stack.receiver.behave(fault.target, Manner::Accept);
    really(stack.receiver.treated(fault.target, manner) > before, "no request came")
}
