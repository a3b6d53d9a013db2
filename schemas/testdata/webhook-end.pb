-retry	root@host"crm*

01JD.0.2.4"01JD