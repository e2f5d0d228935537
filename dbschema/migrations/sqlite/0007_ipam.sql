-- +goose Up
-- The tables of this file are written by crosssite/ipam. Addresses are 32 hexadecimal digits: text order is numeric order.
CREATE TABLE ipam_subnets (
    subnet_id  TEXT NOT NULL PRIMARY KEY,
    network_id TEXT NOT NULL,
    cidr       TEXT NOT NULL,
    pools      TEXT NOT NULL
);
CREATE INDEX ipam_subnets_by_network ON ipam_subnets (network_id);
CREATE TABLE ipam_free (
    subnet_id     TEXT NOT NULL,
    first_address TEXT NOT NULL,
    last_address  TEXT NOT NULL,
    PRIMARY KEY (subnet_id, first_address)
);
CREATE TABLE ipam_slices (
    subnet_id     TEXT NOT NULL,
    first_address TEXT NOT NULL,
    last_address  TEXT NOT NULL,
    site          TEXT NOT NULL,
    PRIMARY KEY (subnet_id, first_address)
);
CREATE TABLE ipam_addresses (
    subnet_id TEXT NOT NULL,
    address   TEXT NOT NULL,
    owner_id  TEXT NOT NULL,
    PRIMARY KEY (subnet_id, address)
);
CREATE INDEX ipam_addresses_by_owner ON ipam_addresses (owner_id);
CREATE TABLE ipam_macs (
    network_id TEXT NOT NULL,
    mac        TEXT NOT NULL,
    owner_id   TEXT NOT NULL,
    PRIMARY KEY (network_id, mac)
);
CREATE INDEX ipam_macs_by_mac ON ipam_macs (mac);
CREATE INDEX ipam_macs_by_owner ON ipam_macs (owner_id);
