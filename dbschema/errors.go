package dbschema

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// ErrNested is returned by Write inside the function of another Write: on
// SQLite, which has one writer, it could only wait for itself.
var ErrNested = errors.New("Write inside Write: use the outer transaction")

// SQLite's result codes that mean something to us (sqlite.org/rescode.html).
const (
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqliteReadOnly   = 8
	sqliteInterrupt  = 9
	sqliteIOErr      = 10
	sqliteFull       = 13
	sqliteCantOpen   = 14
	sqlitePrimaryKey = 1555
	sqliteUnique     = 2067
	sqliteForeignKey = 787
)

// IsNotFound reports whether err says that a row does not exist.
func IsNotFound(err error) bool {
	return errors.Is(err, gorm.ErrRecordNotFound) || errors.Is(err, sql.ErrNoRows)
}

// IsUnique reports whether err says that a row with the same unique key exists.
func IsUnique(err error) bool {
	if _, ext := sqliteCode(err); ext == sqliteUnique || ext == sqlitePrimaryKey {
		return true
	}
	return pgCode(err) == "23505" || errors.Is(err, gorm.ErrDuplicatedKey)
}

// IsForeignKey reports whether err says that a row refers to one that does not
// exist, or is still referred to.
func IsForeignKey(err error) bool {
	_, ext := sqliteCode(err)
	return ext == sqliteForeignKey || pgCode(err) == "23503"
}

// Classify returns err as a fault.Unavailable when the database itself cannot
// serve (full disk, read-only file, no connection), else err unchanged. Errors
// of Write and of gorm handles are classified already.
func Classify(err error) error {
	if err == nil || fault.KindOf(err) != fault.Internal {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if reason := outage(err); reason != "" {
		return &fault.Error{Op: "dbschema", Kind: fault.Unavailable, Msg: reason, Err: err}
	}
	return err
}

// outage returns why the database cannot serve, or "" when err is no such failure.
func outage(err error) string {
	switch code, _ := sqliteCode(err); code {
	case sqliteFull:
		return "the database's disk is full"
	case sqliteReadOnly:
		return "the database's file is read-only"
	case sqliteIOErr, sqliteCantOpen:
		return "the database's file cannot be read or written"
	case sqliteBusy, sqliteLocked:
		return "the database is busy"
	}
	switch code := pgCode(err); {
	case code == "53100":
		return "the database's disk is full"
	case code == "25006":
		return "the database is read-only"
	case code == "40001", code == "40P01", code == "55P03":
		return "the database is busy"
	case strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57P"), strings.HasPrefix(code, "08"):
		return "the database does not answer"
	case code == "" && lostConnection(err):
		return "the database does not answer"
	}
	return ""
}

// lostConnection reports whether err is about the connection and not about a statement.
func lostConnection(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || pgconn.SafeToRetry(err) || closedPeer(err)
}

// closedPeer finds pgx's untyped reports of a connection that the server closed.
func closedPeer(err error) bool {
	text := err.Error()
	return strings.Contains(text, "unexpected EOF") || strings.Contains(text, "conn closed")
}

// retryable reports whether the whole transaction may succeed if it is run again at once.
func retryable(err error) bool {
	code, _ := sqliteCode(err)
	pg := pgCode(err)
	return code == sqliteBusy || code == sqliteLocked || pg == "40001" || pg == "40P01" || errors.Is(err, errBatch)
}

func pgCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
