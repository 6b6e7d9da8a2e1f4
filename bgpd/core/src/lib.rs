//! Sans-IO BGP speaker: FSM, negotiation, RIB, best path, route policy, update groups.
