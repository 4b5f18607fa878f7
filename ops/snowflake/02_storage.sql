-- Reading the lake's bucket without a key: an integration that takes on an AWS role. By ACCOUNTADMIN, once per lake.
--   snow sql -f ops/snowflake/02_storage.sql -D database=BANK -D bucket=… -D lake_role_arn=arn:aws:iam::…:role/…
-- `bucket` is the bucket, or bucket/folder, of BANKSTREAM_S3_BUCKET and BANKSTREAM_S3_PREFIX.

USE ROLE ACCOUNTADMIN;

CREATE STORAGE INTEGRATION IF NOT EXISTS <% database %>_LAKE
    TYPE = EXTERNAL_STAGE
    STORAGE_PROVIDER = 'S3'
    ENABLED = TRUE
    STORAGE_AWS_ROLE_ARN = '<% lake_role_arn %>'
    STORAGE_ALLOWED_LOCATIONS = ('s3://<% bucket %>/');

GRANT USAGE ON INTEGRATION <% database %>_LAKE TO ROLE <% database %>_DEPLOYER;

-- STORAGE_AWS_IAM_USER_ARN and STORAGE_AWS_EXTERNAL_ID of the answer go into trust-policy.json.
DESC INTEGRATION <% database %>_LAKE;
