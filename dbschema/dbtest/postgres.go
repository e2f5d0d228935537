package dbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headwater-cloud/headwater/dbschema"
)

const (
	templateDB   = "headwater_template"
	startTimeout = time.Minute // generous: several test processes start servers at once on small machines
)

// pgServer is a running server that listens on a unix socket in its own folder.
type pgServer struct {
	dir   string
	cmd   *exec.Cmd
	alive io.WriteCloser // closing it ends the server
}

// binaries returns the folder of the newest installed PostgreSQL server, or "".
func binaries() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		if p, err := exec.LookPath("postgres"); err == nil {
			return filepath.Dir(p)
		}
		return ""
	}
	version := func(p string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

// supervise runs the server until its standard input ends, which happens when
// the test process closes it or ends in whatever way; then it removes the folder.
const supervise = `"$0/postgres" -D "$1/data" -k "$1" >"$1/log" 2>&1 & pid=$!
cat >/dev/null
kill -QUIT $pid; wait $pid; rm -rf "$1"`

func startServer() (*pgServer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	// Short, because the path of a unix socket has at most 107 bytes.
	dir, err := os.MkdirTemp("/tmp", "hwpg")
	if err != nil {
		return nil, err
	}
	attr, err := serverUser(dir)
	if err != nil {
		return nil, err
	}
	bin := binaries()
	initdb := exec.CommandContext(ctx, bin+"/initdb", "-D", dir+"/data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale=C.UTF-8", "--no-sync", "--no-instructions")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out)), os.RemoveAll(dir))
	}
	conf, err := os.OpenFile(dir+"/data/postgresql.conf", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	// Nothing has to survive the machine, so nothing waits for its disk.
	_, err = conf.WriteString("listen_addresses=''\nfsync=off\nsynchronous_commit=off\nfull_page_writes=off\n" +
		"max_connections=300\nshared_buffers=64MB\nautovacuum=on\nmax_pred_locks_per_transaction=256\n")
	if err := errors.Join(err, conf.Close()); err != nil {
		return nil, err
	}
	srv := &pgServer{dir: dir, cmd: exec.Command("/bin/sh", "-c", supervise, bin, dir)}
	srv.cmd.SysProcAttr, srv.cmd.Dir = attr, dir
	if srv.alive, err = srv.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := srv.cmd.Start(); err != nil {
		return nil, err
	}
	if err := srv.prepare(ctx); err != nil {
		log, _ := os.ReadFile(dir + "/log")
		return nil, errors.Join(fmt.Errorf("%w: %s", err, bytes.TrimSpace(log)), srv.stop())
	}
	return srv, nil
}

// serverUser gives dir to the account postgres when the tests run as root, under which PostgreSQL refuses to run.
func serverUser(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setpgid: true} // so that Ctrl-C ends the tests first
	if os.Getuid() != 0 {
		return attr, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, os.Chown(dir, uid, gid)
}

// prepare waits until the server answers and makes the migrated template.
func (s *pgServer) prepare(ctx context.Context) error {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		err := s.admin(ctx, "CREATE DATABASE "+templateDB)
		if err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
	db, err := dbschema.Open(ctx, s.config(templateDB), nil)
	if err != nil {
		return err
	}
	return db.Close()
}

func (s *pgServer) config(database string) dbschema.Config {
	cfg := dbschema.Default()
	cfg.Driver = dbschema.Postgres
	cfg.DSN = fmt.Sprintf("host=%s user=postgres dbname=%s", s.dir, database)
	return cfg
}

// admin runs one statement in the maintenance database.
func (s *pgServer) admin(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s user=postgres dbname=postgres", s.dir))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// dropDatabase runs in a test's cleanup, when its context has ended.
func (s *pgServer) dropDatabase(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return s.admin(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
}

func (s *pgServer) stop() error {
	return errors.Join(s.alive.Close(), s.cmd.Wait())
}
