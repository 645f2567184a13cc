import type { Dashboard, GraphFieldConfig, RowPanel } from "@grafana/schema";
import type { Panel } from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";
import type { Options } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** T as JSON writes it: the members of an enum are their values. */
type Json<T> = T extends string ? `${T}` : T extends number ? number : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
/** A query of the data source Prometheus. */
type Query = { refId: string; datasource: { type: "prometheus"; uid: string }; expr: string; legendFormat: string };
type FieldConfig = Omit<NonNullable<Panel["fieldConfig"]>["defaults"], "custom"> & { custom: GraphFieldConfig };
type TimeSeries = Omit<Panel, "fieldConfig" | "options" | "targets" | "type"> & {
    id: number;
    type: "timeseries";
    options: Options;
    fieldConfig: { defaults: FieldConfig; overrides: [] };
    targets: Query[];
};
type Row = RowPanel & { type: "row" };
export const board: Json<Omit<Dashboard, "panels">> & { panels: (Json<TimeSeries> | Json<Row>)[] } =
