-- What operators say of prices, as `tollgate-price-overlay/1`: it lies over the price book. The books that come of it stand in
-- `price_book`.
CREATE TABLE price_overlay (
    managed_by  TEXT NOT NULL,
    owner_scope TEXT NOT NULL,
    text        TEXT NOT NULL,
    PRIMARY KEY (managed_by, owner_scope)
) STRICT, WITHOUT ROWID;
