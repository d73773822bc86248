//! APIs about configs: what each resource is decides who is asked.

use whimbrel_fleet::acl::Operation;
use whimbrel_wire::{
    ErrorCode,
    messages::{alter_configs, describe_configs, incremental_alter_configs},
};

use super::{Ask, Guarded, Verdict, sift};

const TOPIC: i8 = 2;
const GROUP: i8 = 32;

impl Ask {
    fn config(&self, operation: Operation, kind: i8, name: &str) -> Result<(), ErrorCode> {
        match kind {
            TOPIC => self.topic(operation, name),
            GROUP => self.group(operation, name),
            _ => self.cluster(operation),
        }
    }
}

impl Guarded for describe_configs::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use describe_configs::{DescribeConfigsResource, DescribeConfigsResult, Response};
        let may = |it: &DescribeConfigsResource| {
            ask.config(
                Operation::DescribeConfigs,
                it.resource_type,
                &it.resource_name,
            )
        };
        sift(
            &mut self.resources,
            may,
            |response: &mut Response, refused| {
                let refused = refused
                    .into_iter()
                    .map(|(it, error_code)| DescribeConfigsResult {
                        error_code,
                        error_message: None,
                        resource_type: it.resource_type,
                        resource_name: it.resource_name,
                        configs: Vec::new(),
                    });
                response.results.extend(refused);
            },
        )
    }
}

macro_rules! alters {
    ($module:ident) => {
        impl Guarded for $module::Request {
            fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
                use $module::{AlterConfigsResource, AlterConfigsResourceResponse, Response};
                let may = |it: &AlterConfigsResource| {
                    ask.config(Operation::AlterConfigs, it.resource_type, &it.resource_name)
                };
                sift(
                    &mut self.resources,
                    may,
                    |response: &mut Response, refused| {
                        let refused = refused.into_iter().map(|(it, error_code)| {
                            AlterConfigsResourceResponse {
                                error_code,
                                error_message: None,
                                resource_type: it.resource_type,
                                resource_name: it.resource_name,
                            }
                        });
                        response.responses.extend(refused);
                    },
                )
            }
        }
    };
}

alters!(alter_configs);
alters!(incremental_alter_configs);
