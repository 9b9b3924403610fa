"""Pages for people who would rather look than read, on `tidebook serve`.

HTML is made here, whole, from ClickHouse's rows; scripts only add comfort. `asks` puts the questions, `story`, `graph`
and `charts` turn rows into what is shown (pure), `pages` has the addresses. Who may read what is the API's rule.
"""
