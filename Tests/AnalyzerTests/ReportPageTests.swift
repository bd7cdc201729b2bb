import Analyzer
import Testing

/// The page around a report's data, whatever a guest calls its things.
struct ReportPageTests {
    @Test func nothingOfTheDataIsMarkup() {
        let evil = "</script><img src=x onerror=alert(1)><!-- {{title}} & \u{2028}"
        let page = ReportPage.html(title: "<b>\"t\" & 'u'</b>", data: "{\"kernel\": \"\(evil)\"}")
        #expect(page.contains("<title>&lt;b&gt;&quot;t&quot; &amp; &#39;u&#39;&lt;/b&gt;</title>"))
        #expect(!page.contains("<img") && !page.contains("<!-- {{") && !page.contains("\u{2028}"))
        #expect(page.contains("\\u003c/script\\u003e\\u003cimg src=x"))
        #expect(page.components(separatedBy: "</script>").count == 3)
    }

    @Test func thePageAsksForNothing() {
        let page = ReportPage.html(title: "t", data: "{}")
        #expect(page.contains("default-src 'none'"))
        for word in [" src=", "href=\"http", "@import", "url(http", "fetch(", "XMLHttpRequest", "innerHTML"] {
            #expect(!page.contains(word), "\(word)")
        }
        #expect(!page.contains("{{") || page.contains("{{title}}") == false)
    }
}
