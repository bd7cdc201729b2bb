/// The tables of a store that strategies fill. docs/store.md has the same in words.
extension StoreSchema {
    static let costTables = """
        CREATE TABLE model (id INTEGER PRIMARY KEY, options TEXT NOT NULL UNIQUE, build TEXT NOT NULL,
            width INTEGER NOT NULL, idle_ns INTEGER NOT NULL, verified_events INTEGER NOT NULL,
            verified_digests INTEGER NOT NULL, part_start INTEGER NOT NULL,
            part_counts INTEGER NOT NULL);
        CREATE TABLE native (model INTEGER NOT NULL, part TEXT NOT NULL, primitive TEXT NOT NULL,
            times INTEGER NOT NULL);
        CREATE TABLE model_site (model INTEGER NOT NULL, site INTEGER NOT NULL, events INTEGER NOT NULL,
            first INTEGER NOT NULL, PRIMARY KEY (model, site)) WITHOUT ROWID;
        CREATE TABLE path (model INTEGER NOT NULL, strategy TEXT NOT NULL, number INTEGER NOT NULL,
            event TEXT NOT NULL, class TEXT NOT NULL, mechanism TEXT NOT NULL, charges TEXT NOT NULL,
            world_switches INTEGER NOT NULL, hypercalls INTEGER NOT NULL, hidden_faults INTEGER NOT NULL,
            ipcs INTEGER NOT NULL, boot INTEGER NOT NULL, kernel INTEGER NOT NULL, wait INTEGER NOT NULL,
            PRIMARY KEY (model, strategy, number)) WITHOUT ROWID;
        CREATE TABLE charge (model INTEGER NOT NULL, strategy TEXT NOT NULL, site INTEGER NOT NULL,
            process INTEGER, path INTEGER NOT NULL, times INTEGER NOT NULL);
        CREATE TABLE charge_time (model INTEGER NOT NULL, strategy TEXT NOT NULL, part INTEGER NOT NULL,
            path INTEGER NOT NULL, times INTEGER NOT NULL);
        CREATE TABLE strategy (model INTEGER NOT NULL, costs TEXT NOT NULL, name TEXT NOT NULL,
            applicable INTEGER NOT NULL, hypothetical INTEGER NOT NULL, low REAL NOT NULL, typical REAL NOT NULL,
            high REAL NOT NULL, ratio_low REAL NOT NULL, ratio_typical REAL NOT NULL, ratio_high REAL NOT NULL,
            estimated_share REAL NOT NULL, world_switches INTEGER NOT NULL, hypercalls INTEGER NOT NULL,
            hidden_faults INTEGER NOT NULL, ipcs INTEGER NOT NULL, PRIMARY KEY (model, costs, name)) WITHOUT ROWID;
        CREATE TABLE cost (model INTEGER NOT NULL, costs TEXT NOT NULL, site INTEGER NOT NULL, process INTEGER,
            strategy TEXT NOT NULL, class TEXT NOT NULL, low REAL NOT NULL, typical REAL NOT NULL,
            high REAL NOT NULL);
        CREATE INDEX cost_strategy ON cost (model, costs, strategy);
        """
}
