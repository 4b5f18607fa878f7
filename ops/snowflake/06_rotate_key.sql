-- A service user's next key beside its present one: both are good until the second statement is run.
--   snow sql -f ops/snowflake/06_rotate_key.sql -D user=BANK_LOADER_SVC -D next_public_key=…

USE ROLE USERADMIN;

ALTER USER <% user %> SET RSA_PUBLIC_KEY_2 = '<% next_public_key %>';

-- When every process uses the next key, make it the first one, by hand:
--   ALTER USER … SET RSA_PUBLIC_KEY = '…'; ALTER USER … UNSET RSA_PUBLIC_KEY_2;
