/// One HTML file that shows a trace's analysis and asks nothing of any network.
///
/// Everything that comes from a guest is in one block of JSON, which the page's script puts into text nodes only.
package enum ReportPage {
    /// The page around `data`, which is JSON.
    package static func html(title: String, data: String) -> String {
        var page = ""
        for piece in text(PackageResources.page_html).split(separator: "{{", omittingEmptySubsequences: false) {
            guard let end = piece.firstRange(of: "}}") else {
                page += piece
                continue
            }
            switch piece[..<end.lowerBound] {
            case "title": page += escaped(title)
            case "style": page += text(PackageResources.page_css)
            case "script":
                page += text(PackageResources.page_js) + text(PackageResources.flame_js)
                page += text(PackageResources.charts_js)
            case "data": page += embedded(data)
            default: page += "{{" + piece[..<end.upperBound]
            }
            page += piece[end.upperBound...]
        }
        return page
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    /// As text of an element or an attribute.
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// JSON in which nothing looks like the end of a script or the beginning of a comment.
    static func embedded(_ json: String) -> String {
        json.replacing("<", with: "\\u003c").replacing(">", with: "\\u003e").replacing("&", with: "\\u0026")
            .replacing("\u{2028}", with: "\\u2028").replacing("\u{2029}", with: "\\u2029")
    }
}
