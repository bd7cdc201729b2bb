import GRDB

/// A value of a table.
package enum TableValue: Equatable {
    case null
    case integer(Int64)
    case real(Double)
    case text(String)

    init(_ value: DatabaseValue) {
        switch value.storage {
        case .null: self = .null
        case .int64(let number): self = .integer(number)
        case .double(let number): self = .real(number)
        case .string(let text): self = .text(text)
        case .blob(let data): self = .text(data.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())
        }
    }
}

extension AnalysisStore {
    /// Runs one statement that reads. `body` gets the columns' names once, then the values of each row.
    package func query(
        _ sql: String, _ body: (_ columns: [String]?, _ values: [TableValue]?) throws -> Void
    ) throws {
        try query(sql, StatementArguments(), body)
    }

    func query(
        _ sql: String, _ arguments: StatementArguments,
        _ body: (_ columns: [String]?, _ values: [TableValue]?) throws -> Void
    ) throws {
        do {
            try queue.inDatabase { database in
                let statement = try database.makeStatement(sql: sql)
                guard statement.isReadonly else { throw AnalysisError("the statement would change the store") }
                let rows = try Row.fetchCursor(statement, arguments: arguments)
                try body(statement.columnNames, nil)
                while let row = try rows.next() {
                    try body(nil, row.databaseValues.map { TableValue($0) })
                }
            }
        } catch let error as DatabaseError where error.resultCode == .SQLITE_MISUSE {
            throw AnalysisError("SQL: expected one statement")
        } catch let error as DatabaseError {
            throw AnalysisError("SQL: \(error.message ?? "error \(error.resultCode.rawValue)")")
        }
    }

    /// Where the symbol begins that an instruction's address belongs to.
    package func symbolStart(of address: UInt64) throws -> UInt64? {
        let sql = "SELECT s.address - s.offset FROM site s WHERE s.address = ? AND s.offset IS NOT NULL"
        guard case .integer(let start) = try rows(sql, [address.column]).first?[0] else { return nil }
        return UInt64(bitPattern: start)
    }

    /// All rows of a statement that gives few.
    package func rows(_ sql: String, _ arguments: StatementArguments = StatementArguments()) throws -> [[TableValue]] {
        var found: [[TableValue]] = []
        try query(sql, arguments) { _, values in
            if let values { found.append(values) }
        }
        return found
    }
}
