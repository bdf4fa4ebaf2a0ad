"""PostgreSQL tells all processes when what a sign-in rests on changes (`access_cache`)."""

from django.db import migrations

# When somebody last came changes nothing about what they may do.
FUNCTION = """
CREATE FUNCTION teammates_tell_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR
        to_jsonb(OLD) - '{last_login,last_used_at,updated_at}'::text[]
        <> to_jsonb(NEW) - '{last_login,last_used_at,updated_at}'::text[]
    THEN
        PERFORM pg_notify('muster_access', '');
    END IF;
    RETURN NULL;
END $$
"""
TABLES = (
    "teammates_apikey",
    "teammates_membership",
    "teammates_organization",
    "teammates_refreshtoken",
    "teammates_user",
)


class Migration(migrations.Migration):
    dependencies = [("teammates", "0016_audit_end_user")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION teammates_tell_access"),
        *(
            migrations.RunSQL(
                f"CREATE TRIGGER tell_access AFTER UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION teammates_tell_access()",
                f"DROP TRIGGER tell_access ON {table}",
            )
            for table in TABLES
        ),
    ]
