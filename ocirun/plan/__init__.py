"""Pure code from (spec, host facts) to a Plan. Nothing here touches the system."""
