import GRDB

/// The tables of an analysis store. docs/store.md has the same in words.
enum StoreSchema {
    /// Raised with each change; a store of another version is made anew.
    static let version = 2

    /// Marks the file as a store, in SQLite's `application_id`: "TRPL".
    static let application = 0x5452_504C

    static let tables = """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE image (number INTEGER PRIMARY KEY, role TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL,
            embedded INTEGER NOT NULL);
        CREATE TABLE symbol (id INTEGER PRIMARY KEY, address INTEGER NOT NULL, size INTEGER NOT NULL,
            type TEXT NOT NULL, name TEXT NOT NULL, module TEXT);
        CREATE TABLE process (id INTEGER PRIMARY KEY, name TEXT NOT NULL, pid INTEGER NOT NULL,
            cr3 INTEGER NOT NULL);
        CREATE TABLE interval (start INTEGER PRIMARY KEY, stop INTEGER NOT NULL, process INTEGER NOT NULL);
        CREATE TABLE mark (count INTEGER NOT NULL, text TEXT NOT NULL);
        CREATE TABLE kind (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        CREATE TABLE register (space TEXT NOT NULL, address INTEGER NOT NULL, device TEXT NOT NULL,
            name TEXT NOT NULL, PRIMARY KEY (space, address)) WITHOUT ROWID;
        CREATE TABLE site (id INTEGER PRIMARY KEY, address INTEGER NOT NULL, kind INTEGER NOT NULL,
            ring INTEGER NOT NULL, size INTEGER NOT NULL, phase TEXT NOT NULL, symbol INTEGER, offset INTEGER);
        CREATE TABLE summary (site INTEGER NOT NULL, process INTEGER NOT NULL, subject INTEGER NOT NULL,
            samples INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, delta_min INTEGER NOT NULL,
            delta_max INTEGER NOT NULL, delta_sum INTEGER NOT NULL);
        CREATE TABLE timeline (bucket INTEGER NOT NULL, kind INTEGER NOT NULL, ring INTEGER NOT NULL,
            samples INTEGER NOT NULL, PRIMARY KEY (bucket, kind, ring)) WITHOUT ROWID;
        CREATE TABLE stack (id INTEGER PRIMARY KEY, site INTEGER NOT NULL, process INTEGER NOT NULL,
            count INTEGER NOT NULL, weight INTEGER NOT NULL);
        CREATE TABLE frame (stack INTEGER NOT NULL, depth INTEGER NOT NULL, address INTEGER NOT NULL, symbol INTEGER,
            offset INTEGER, PRIMARY KEY (stack, depth)) WITHOUT ROWID;
        CREATE TABLE event_run (number INTEGER PRIMARY KEY, count INTEGER NOT NULL, site INTEGER NOT NULL,
            subject INTEGER NOT NULL, value INTEGER NOT NULL, detail INTEGER NOT NULL, samples INTEGER NOT NULL,
            delta INTEGER NOT NULL);
        """

    /// What is made after the rows are there.
    static let views = """
        CREATE INDEX symbol_name ON symbol (name);
        CREATE INDEX summary_site ON summary (site);
        CREATE VIEW device_access AS
            SELECT r.device, r.name AS register, r.space, r.address, k.name AS kind, sum(m.samples) AS samples
            FROM summary m JOIN site s ON s.id = m.site JOIN kind k ON k.id = s.kind
            JOIN register r ON r.address = m.subject
                AND r.space = CASE WHEN k.name IN ('portIn', 'portOut') THEN 'port'
                    WHEN k.name IN ('mmioRead', 'mmioWrite') THEN 'memory' END
            GROUP BY r.device, r.space, r.address, k.name;
        CREATE VIEW hot_site AS
            SELECT printf('0x%x', s.address) AS address, k.name AS kind, s.ring, s.phase, y.name AS symbol, s.offset,
                sum(m.samples) AS samples, sum(m.delta_sum) AS counts
            FROM summary m JOIN site s ON s.id = m.site JOIN kind k ON k.id = s.kind
            LEFT JOIN symbol y ON y.id = s.symbol
            GROUP BY s.id ORDER BY samples DESC;
        """
}

/// How a 64-bit number of the guest lies in a column: SQLite's integers have a sign.
extension UInt64 {
    var column: Int64 { Int64(bitPattern: self) }
}
