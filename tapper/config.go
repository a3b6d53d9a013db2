package tapper

import (
	"net/http"

	"qstream/tapper/tenants"
	"qstream/tapper/webhook"
)

// Config are the settings of a Tapper; zero values take the defaults.
type Config struct {
	// Identify says which user asks for events over HTTP, and of which
	// tenant; its errors are tenants.ErrUnknown, tenants.ErrForbidden, or
	// temporary. Nil: nobody may ask.
	Identify func(*http.Request) (user, tenant string, err error)
}

// parts makes every part that the settings ask for, in the order of their start.
func (c Config) parts(d Deps) ([]named, error) {
	var parts []named
	own, err := tenants.New(tenants.Deps{
		Bus: d.Bus, Directory: d.Directory, Identify: c.Identify, Log: d.Log, Metrics: d.Metrics, Now: d.Now,
	})
	if err != nil {
		return nil, err
	}
	parts = append(parts, named{"tenants", own})
	hooks, err := webhook.New(webhook.Deps{
		Bus: d.Bus, Directory: d.Directory, Control: d.Control, Log: d.Log, Metrics: d.Metrics, Now: d.Now,
	})
	if err != nil {
		return nil, err
	}
	return append(parts, named{"webhooks", hooks}), nil
}
