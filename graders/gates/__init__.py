"""What proves a lab: gates that read its files, and gates that judge how its reference, faults and cheats fared."""
