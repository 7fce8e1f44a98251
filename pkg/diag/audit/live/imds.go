package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/transitd/transitd/pkg/azure"
)

// NewClient makes the HTTP client for Fetch. The metadata service is link-local
// and refuses what came through a proxy; the resource manager may need one.
func NewClient() *http.Client {
	t := &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Hostname() == azure.InstanceMetadata().String() {
				return nil, nil
			}
			return http.ProxyFromEnvironment(r)
		},
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	return &http.Client{Transport: t}
}

// machine is what the metadata service tells of the machine.
type machine struct {
	Compute struct {
		ResourceID     string `json:"resourceId"`
		SubscriptionID string `json:"subscriptionId"`
		ResourceGroup  string `json:"resourceGroupName"`
		Name           string `json:"name"`
		Environment    string `json:"azEnvironment"`
	} `json:"compute"`
	Network struct {
		Interface []struct {
			IPv4 struct {
				Addresses []struct {
					Private string `json:"privateIpAddress"`
				} `json:"ipAddress"`
			} `json:"ipv4"`
		} `json:"interface"`
	} `json:"network"`
}

// maxMetadata bounds the metadata service's answer, in bytes; a real one has about 5 kB.
const maxMetadata = 1 << 20

// whoAmI asks the instance metadata service.
func whoAmI(ctx context.Context, client *http.Client) (m machine, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	u := url.URL{Scheme: "http", Host: azure.InstanceMetadata().String(), Path: "/metadata/instance", RawQuery: "api-version=2021-02-01"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return m, fmt.Errorf("make the request for the metadata service: %w", err)
	}
	req.Header.Set("Metadata", "true")
	resp, err := client.Do(req)
	if err != nil {
		return m, fmt.Errorf("no answer from the instance metadata service, so this is no Azure VM: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata))
	if err != nil {
		return m, fmt.Errorf("read the instance metadata service's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return m, fmt.Errorf("the instance metadata service answered %s: %.200q", resp.Status, body)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("decode the instance metadata service's answer: %w", err)
	}
	if m.Compute.SubscriptionID == "" || m.Compute.ResourceGroup == "" || m.Compute.ResourceID == "" {
		return m, errors.New("the instance metadata service names no subscription, resource group or machine")
	}
	return m, nil
}

// addresses are the machine's private IPv4 addresses.
func (m machine) addresses() (out []netip.Addr) {
	for _, i := range m.Network.Interface {
		for _, a := range i.IPv4.Addresses {
			if x, err := netip.ParseAddr(a.Private); err == nil {
				out = append(out, x)
			}
		}
	}
	return out
}

// cloud is the one that the machine runs in.
func (m machine) cloud() cloud.Configuration {
	switch m.Compute.Environment {
	case "AzureUSGovernmentCloud":
		return cloud.AzureGovernment
	case "AzureChinaCloud":
		return cloud.AzureChina
	default:
		return cloud.AzurePublic
	}
}
