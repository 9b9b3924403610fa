-- Every state of the applications as it is now, one row per (domain, kind, id); what is gone is left out. value: JSON.
-- With domain, kind and id (or a beginning of them) it is quick. Typed views of it: positions, authorizations, token_….
-- Example: SELECT id, version, value FROM application_current WHERE domain = 'assets' AND kind = 'user' AND id = 'alice'
SELECT domain, kind, id, now.1 AS value, now.2 AS version, now.3 AS event_id, now.4 AS at
FROM (
  SELECT
    s.domain AS domain,
    s.kind AS kind,
    s.id AS id,
    argMax((s.value, s.version, s.event_id, s.at, s.gone), s.version) AS now
  FROM application_states AS s
  GROUP BY domain, kind, id
)
WHERE NOT now.5
