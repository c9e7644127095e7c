//! What runs in an instance's containers.
pub mod report;

/// Port of PostgreSQL.
pub const SQL_PORT: u16 = 5432;
/// Port of the agent's health, in the container of the server.
pub const REST_PORT: u16 = 8008;
/// Port of the health of the container for backups.
pub const BACKUP_PORT: u16 = 8009;
/// Port of the metrics.
pub const METRICS_PORT: u16 = 9187;
